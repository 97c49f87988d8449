//! Scorers in other programs: the bundled examples over pipes and HTTP, and every way in which the other side can fail.

use crate::support::root;
use diffpref::scorers::{Better, Scope, Scorer, ScorerSpec};
use image::{Rgb, RgbImage};
use pipelines::weights::LoadOptions;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpListener;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use std::time::Duration;

/// Answer to `describe` of a scorer with one measure.
const DESCRIPTION: &str = r#"{"protocol": 1, "name": "m", "measures": [{"name": "m", "min": 0}]}"#;

fn open(name: &str, text: &str) -> anyhow::Result<Box<dyn Scorer>> {
    ScorerSpec { name: name.into(), path: text.into() }.open(LoadOptions::cpu(), None)
}

fn pictures() -> Vec<RgbImage> {
    let gradient = RgbImage::from_fn(24, 16, |x, y| Rgb([(x * 9) as u8, (y * 15) as u8, 40]));
    vec![RgbImage::from_pixel(8, 8, Rgb([255, 0, 0])), RgbImage::from_pixel(4, 6, Rgb([51, 51, 51])), gradient]
}

/// A program that reads requests and answers by the body of a Python function `answer(request)`, which returns a text.
fn program(dir: &Path, body: &str) -> String {
    let script = format!(
        "import json, os, sys, time\ndef answer(request):\n    if request['verb'] == 'describe':\n        return '{DESCRIPTION}'\n{}\n\
         for line in sys.stdin:\n    print(answer(json.loads(line)), flush=True)\n",
        body.lines().map(|line| format!("    {line}\n")).collect::<String>()
    );
    let path = dir.join("judge.py");
    std::fs::write(&path, script).unwrap();
    format!("python3 {}", path.display())
}

/// Error of rating three pictures, with the folder called DIR.
fn failure(options: &str, body: &str) -> String {
    let dir = tempfile::tempdir().unwrap();
    let text = format!("{options} {}", program(dir.path(), body));
    let rated = open("command", &text).and_then(|scorer| scorer.score(&pictures(), 0, &["a", "b", "c"]).map(drop));
    format!("{:#}", rated.unwrap_err()).replace(&dir.path().display().to_string(), "DIR")
}

#[test]
fn the_example_rates_over_pipes_with_numbers_that_are_known() {
    let example = root().join("docs/examples/brightness.py");
    let scorer = open("command", &example.display().to_string()).unwrap();
    let measures: Vec<_> = scorer.measures().iter().map(|m| (m.name.as_ref(), m.better, m.scope)).collect();
    let expected = [("brightness", Better::Higher, Scope::Picture), ("named_colour", Better::Higher, Scope::Prompt)];
    assert_eq!(measures, expected);
    let pictures = pictures();
    let table = scorer.score(&pictures, 0, &["a Red fox", "a red fox", "a dog"]).unwrap();
    let mean = pictures[2].as_raw().iter().map(|v| f64::from(*v)).sum::<f64>() / (255.0 * 24.0 * 16.0 * 3.0);
    assert_eq!(table.0, [vec![1.0 / 3.0, 1.0], vec![0.2, 1.0 / 3.0], vec![mean, 0.0]]);
    let answers = scorer.compare(&pictures[..2], &pictures[1..], &["", ""]).unwrap();
    assert_eq!(answers, [1.0, 0.0]);
    assert!(scorer.identity().contains("brightness.py brightness 1"), "{}", scorer.identity());
}

/// Kills the server when dropped.
struct Server(Child);

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[test]
fn the_example_rates_over_http_with_the_same_numbers() {
    let example = root().join("docs/examples/brightness.py");
    let child = Command::new("python3").arg(&example).args(["--port", "0"]).stderr(Stdio::piped()).spawn().unwrap();
    let mut server = Server(child);
    let mut line = String::new();
    BufReader::new(server.0.stderr.take().unwrap()).read_line(&mut line).unwrap();
    let url = line.trim().strip_prefix("serving on ").unwrap();
    let prompts = ["a Red fox", "a red fox", "a dog"];
    let numbers = |scorer: Box<dyn Scorer>| scorer.score(&pictures(), 0, &prompts).unwrap();
    let (http, pipes) = (open("http", url).unwrap(), open("command", &example.display().to_string()).unwrap());
    assert_eq!(numbers(http), numbers(pipes));
}

#[test]
fn pictures_can_be_passed_as_files_and_every_batch_is_asked() {
    let dir = tempfile::tempdir().unwrap();
    let script = dir.path().join("sizes.py");
    let description = r#"{"protocol": 1, "name": "s", "measures": [{"name": "bytes"}, {"name": "n"}], "pictures": "file", "batch": 2}"#;
    std::fs::write(
        &script,
        format!(
            "import json, os, sys\nfor line in sys.stdin:\n    r = json.loads(line)\n    if r['verb'] == 'describe':\n        print('{description}', flush=True)\n\
             \x20   else:\n        print(json.dumps({{'id': r['id'], 'scores': [[os.path.getsize(i['picture']['file']), len(r['items'])] for i in r['items']]}}), flush=True)\n"
        ),
    )
    .unwrap();
    let scorer = open("command", &format!("python3 {}", script.display())).unwrap();
    let table = scorer.score(&pictures(), 0, &["a", "b", "c"]).unwrap();
    assert_eq!(table.column(1), [2.0, 2.0, 1.0]);
    assert!(table.column(0).iter().all(|bytes| *bytes > 60.0), "{table:?}");
}

#[test]
fn a_program_that_ends_is_started_again_and_then_quoted() {
    let dir = tempfile::tempdir().unwrap();
    let body = "open('COUNT', 'a').write('x')\nprint('no memory left', file=sys.stderr)\nsys.exit(3)"
        .replace("COUNT", &dir.path().join("count").display().to_string());
    let said = failure("retries=2", &body);
    assert!(said.contains("python3 DIR/judge.py, 3 times ended before it answered (exit status: 3)"), "{said}");
    assert!(said.contains("its last lines on standard error: no memory left"), "{said}");
    assert_eq!(std::fs::read_to_string(dir.path().join("count")).unwrap(), "xxx");
    // The second process answers.
    let body = format!(
        "mark = '{}'\nif not os.path.exists(mark):\n    open(mark, 'w'); sys.exit(1)\nreturn json.dumps({{'id': request['id'], 'scores': [[1], [2], [3]]}})",
        dir.path().join("mark").display()
    );
    let text = format!("retries=1 {}", program(dir.path(), &body));
    let table = open("command", &text).unwrap().score(&pictures(), 0, &["a", "b", "c"]).unwrap();
    assert_eq!(table.column(0), [1.0, 2.0, 3.0]);
}

#[test]
fn a_program_that_hangs_is_killed_after_its_time() {
    let said = failure("timeout=0.3 retries=0", "time.sleep(600)");
    assert!(said.contains("gave no answer within 0.3 s; raise timeout="), "{said}");
}

#[test]
fn a_program_that_is_not_there_is_named() {
    let said = format!("{:#}", open("command", "no-such-judge --x").err().unwrap());
    assert!(said.contains("cannot start the program \"no-such-judge\": No such file"), "{said}");
    let said = format!("{:#}", open("command", "retries=x python3").err().unwrap());
    assert!(said.contains("retries=x: expected a whole number in 0..20"), "{said}");
}

#[test]
fn answers_that_are_no_answers_are_quoted() {
    let answer = |scores: &str| format!("return json.dumps({{'id': request['id'], 'scores': {scores}}})");
    let cases = [
        ("return 'loading weights ..'", "answered \"loading weights ..\", which is no answer of the protocol"),
        (&*answer("[[1], [2]]"), "returned 2 rows of scores, expected 3, one per picture"),
        (&*answer("[[1], [2, 3], [4]]"), "returned 2 numbers for picture 1, expected 1"),
        (&*answer("[[1], [float('nan')], [4]]"), "answered NaN in"),
        (&*answer("[[1], [None], [4]]"), "m of picture 1, prompt \"b\", is null: expected a finite number"),
        (&*answer("[[1], [-2], [4]]"), "m of picture 1, prompt \"b\", is -2: outside the range"),
        ("return json.dumps({'id': 99, 'scores': []})", "answered with id 99, expected id 1, the request's"),
        ("return json.dumps({'id': 1, 'error': 'CUDA out of memory'})", "reports: CUDA out of memory"),
        ("return json.dumps({'id': 1})", "answered \"score\" without `scores`"),
    ];
    for (body, expected) in cases {
        let said = failure("", body);
        assert!(said.contains(expected), "{body}: {said}");
    }
    let dir = tempfile::tempdir().unwrap();
    let scorer = open("command", &program(dir.path(), "return ''")).unwrap();
    let said = scorer.compare(&pictures()[..1], &pictures()[..1], &["a"]).unwrap_err().to_string();
    assert!(said.contains("offers [Score], and Compare is needed"), "{said}");
}

#[test]
fn a_description_that_cannot_be_used_is_refused_with_the_reason() {
    let cases = [
        (r#"{"protocol": 2, "name": "m"}"#, "speaks protocol 2, expected 1"),
        (r#"{"protocol": 1, "name": "m"}"#, "describes no measure"),
        (r#"{"protocol": 1, "name": "m", "measures": [{"name": "a.b"}]}"#, "a measure \"a.b\": expected a name"),
        (r#"{"protocol": 1, "name": "m", "measures": [{"name": "a"}, {"name": "a"}]}"#, "the measure \"a\" twice"),
        (r#"{"protocol": 1, "name": "m", "measures": [{"name": "a"}], "batch": 0}"#, "a batch of 0 pictures"),
        (r#"{"protocol": 1}"#, "missing field `name`"),
    ];
    for (description, expected) in cases {
        let text = format!("sh -c 'read line; echo \"$0\"' '{description}'");
        let said = format!("{:#}", open("command", &text).err().unwrap());
        assert!(said.contains(expected), "{said}");
    }
}

/// Serves given answers (status, body, delay), the last one for ever; returns its address and the number of requests.
fn endpoint(answers: Vec<(u16, String, u64)>) -> (String, Arc<AtomicUsize>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}/", listener.local_addr().unwrap());
    let asked = Arc::new(AtomicUsize::new(0));
    let count = asked.clone();
    std::thread::spawn(move || {
        for mut stream in listener.incoming().flatten() {
            let mut reader = BufReader::new(stream.try_clone().unwrap());
            let mut length = 0;
            loop {
                let mut line = String::new();
                if reader.read_line(&mut line).unwrap_or(0) == 0 || line.trim().is_empty() {
                    break;
                }
                if let Some(value) = line.to_lowercase().strip_prefix("content-length:") {
                    length = value.trim().parse().unwrap();
                }
            }
            let mut body = vec![0; length];
            let _ = reader.read_exact(&mut body);
            let (status, text, delay) = &answers[count.fetch_add(1, SeqCst).min(answers.len() - 1)];
            std::thread::sleep(Duration::from_millis(*delay));
            let _ = write!(
                stream,
                "HTTP/1.1 {status} X\r\nContent-Length: {}\r\nConnection: close\r\n\r\n{text}",
                text.len()
            );
        }
    });
    (url, asked)
}

fn described() -> (u16, String, u64) {
    (200, DESCRIPTION.into(), 0)
}

/// Error of rating a picture.
fn refusal(options: &str, answers: Vec<(u16, String, u64)>) -> (String, usize) {
    let (url, asked) = endpoint(answers);
    let rated = open("http", &format!("{options} {url}")).and_then(|s| s.score(&pictures()[..1], 0, &["a"]).map(drop));
    (format!("{:#}", rated.unwrap_err()).replace(&url, "URL"), asked.load(SeqCst))
}

#[test]
fn an_endpoint_that_is_busy_is_asked_again() {
    let answer = (200, r#"{"id": 1, "scores": [[4.5]]}"#.to_string(), 0);
    let (url, _) = endpoint(vec![described(), (503, "busy".into(), 0), (429, "later".into(), 0), answer]);
    let table = open("http", &url).unwrap().score(&pictures()[..1], 0, &["a"]).unwrap();
    assert_eq!(table.column(0), [4.5]);
}

#[test]
fn an_endpoint_that_fails_is_quoted() {
    let (said, asked) = refusal("retries=1", vec![described(), (500, "out of memory".into(), 0)]);
    let expected = "URL, 2 times answered 500 Internal Server Error with \"out of memory\"; see the log of that server";
    assert_eq!((said.as_str(), asked), (expected, 3));
    let (said, asked) = refusal("", vec![(404, "no such page".into(), 0)]);
    assert!(said.contains("answered 404 Not Found with \"no such page\"; check the address"), "{said}");
    assert_eq!(asked, 1);
}

#[test]
fn an_endpoint_that_is_slow_or_down_is_given_up() {
    let (said, _) = refusal("timeout=0.2 retries=0", vec![described(), (200, String::new(), 3000)]);
    assert!(said.contains("URL gave no answer within 0.2 s; raise timeout="), "{said}");
    let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let said = format!("{:#}", open("http", &format!("retries=0 http://127.0.0.1:{port}/")).err().unwrap());
    assert!(said.contains("cannot be reached") && said.contains("start the server"), "{said}");
    let said = format!("{:#}", open("http", "localhost:8000").err().unwrap());
    assert!(said.contains("expected an address that begins with http:// or https://"), "{said}");
}

#[test]
fn the_adapter_for_language_models_reads_yes_and_answers() {
    let said = |text: &str| (200, format!(r#"{{"choices": [{{"message": {{"content": "{text}"}}}}]}}"#), 0);
    let better = "It is sharp. <answer>Image 2 is better</answer>";
    let (url, _) = endpoint(vec![said("Yes."), said("no"), said("yes"), said("No"), said(better), said("unsure")]);
    let script = root().join("docs/examples/vlm_judge.py");
    let judge = open("command", &format!("env VLM_URL={url} VLM_MODEL=test python3 {}", script.display())).unwrap();
    let pictures = pictures();
    // Weights 2, 1, 1, 1: the first and the third are met.
    assert_eq!(judge.score(&pictures[..1], 0, &["a fox"]).unwrap().column(0), [0.6]);
    assert_eq!(judge.compare(&pictures[..2], &pictures[1..], &["a", "b"]).unwrap(), [0.0, 0.5]);
}
