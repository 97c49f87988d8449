//! `diffpref score`: files, resume after a kill, and refusals.

use crate::support::{Messages, diffpref, json, root, signalled, succeeds};
use assert_cmd::Command;
use image::{Rgb, RgbImage};
use serde_json::Value;
use std::path::{Path, PathBuf};

/// A folder of pictures with captions, and a cache of its own.
struct Gallery(tempfile::TempDir);

impl Gallery {
    /// `n` pictures of rising brightness, `p00.png` .., with the captions "a red fox" and "a dog" in turn.
    fn new(n: usize) -> Self {
        let gallery = Self(tempfile::tempdir().unwrap());
        std::fs::create_dir(gallery.path("pictures")).unwrap();
        for i in 0..n {
            let level = (10 + 15 * i) as u8;
            let picture = RgbImage::from_fn(12, 10, |x, y| Rgb([level, level + (x + y) as u8 % 3, level]));
            picture.save(gallery.path(&format!("pictures/p{i:02}.png"))).unwrap();
            let caption = if i % 2 == 0 { "a red fox" } else { "a dog\n" };
            std::fs::write(gallery.path(&format!("pictures/p{i:02}.txt")), caption).unwrap();
        }
        gallery
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    fn score(&self, input: &str, arguments: &[&str]) -> Command {
        let mut command = diffpref();
        command.env("XDG_CACHE_HOME", self.path("cache")).arg("score").arg(self.path(input));
        command.arg("--out").arg(self.path("out")).args(arguments);
        command
    }

    fn rows(&self) -> Vec<Value> {
        let text = std::fs::read_to_string(self.path("out/scores.jsonl")).unwrap();
        text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    }

    /// The bundled scorer, which notes every picture that it rates in a file.
    fn counting(&self) -> String {
        let script = self.path("counting.py");
        let (examples, log) = (root().join("docs/examples").display().to_string(), self.path("rated"));
        let text = format!(
            "import sys\nsys.path.insert(0, '{examples}')\nimport brightness\n\
             def score(items, timestep):\n    open('{}', 'a').write('x' * len(items))\n    return brightness.score(items, timestep)\n\
             brightness.serve(brightness.DESCRIPTION, score)\n",
            log.display()
        );
        std::fs::write(&script, text).unwrap();
        format!("command=python3 {}", script.display())
    }

    fn rated(&self) -> usize {
        std::fs::read_to_string(self.path("rated")).unwrap_or_default().len()
    }

    fn refused(&self, command: &mut Command, code: i32) -> String {
        let assert = command.assert().failure().code(code);
        let text = String::from_utf8_lossy(&assert.get_output().stderr).into_owned();
        text.replace(&self.0.path().display().to_string(), "DIR")
    }
}

fn brightness() -> String {
    format!("command={}", root().join("docs/examples/brightness.py").display())
}

#[test]
fn a_folder_is_rated_by_several_scorers_with_a_report() {
    let gallery = Gallery::new(12);
    let scorers = ["--scorer", &brightness(), "--scorer", "background", "--scorer", "compressibility"];
    let command = &mut gallery.score("pictures", &[&scorers[..], &["--report", "--json"]].concat());
    let assert = command.assert().success();
    let summary: Value = serde_json::from_slice(&assert.get_output().stdout).unwrap();
    assert_eq!((summary["pictures"].as_u64(), summary["prompts"].as_u64()), (Some(12), Some(2)));
    let rows = gallery.rows();
    assert_eq!(rows.len(), 12);
    assert_eq!((rows[3]["picture"].as_str(), rows[3]["prompt"].as_str()), (Some("../pictures/p03.png"), Some("a dog")));
    let picture = image::open(gallery.path("pictures/p03.png")).unwrap().to_rgb8();
    let mean = picture.as_raw().iter().map(|v| f64::from(*v)).sum::<f64>() / (255.0 * picture.as_raw().len() as f64);
    assert_eq!(rows[3]["scores"]["command"]["brightness"].as_f64(), Some(mean));
    assert_eq!(rows[3]["scores"]["command"]["named_colour"].as_f64(), Some(0.0));
    // Brightness rises from picture to picture, darkness falls.
    let agreement = summary["agreement"].as_array().unwrap();
    let of = |a: &str, b: &str| agreement.iter().find(|one| one["a"] == a && one["b"] == b).unwrap();
    let opposite = of("command.brightness", "background.darkness");
    assert_eq!((opposite["tau_b"].as_f64(), opposite["tau_b_within"].as_f64()), (Some(-1.0), Some(-1.0)));
    assert_eq!(json(&gallery.path("out/scores.json"))["scorers"][0]["rated"], 12);
    let page = std::fs::read_to_string(gallery.path("out/report.html")).unwrap();
    for part in ["12 pictures, 2 prompts", "Agreement", "Kendall tau-b", "data:image/png;base64,", "darkness"] {
        assert!(page.contains(part), "{part}");
    }
    assert!(!page.contains("src=\"http"), "the page is self-contained");
}

#[test]
fn a_second_call_rates_nothing_and_a_new_picture_alone_is_rated() {
    let gallery = Gallery::new(5);
    let scorer = gallery.counting();
    succeeds(&mut gallery.score("pictures", &["--scorer", &scorer]));
    let first = std::fs::read(gallery.path("out/scores.jsonl")).unwrap();
    let said = succeeds(&mut gallery.score("pictures", &["--scorer", &scorer]));
    assert!(said.contains("5 pictures, 5 rated before"), "{said}");
    assert_eq!((gallery.rated(), std::fs::read(gallery.path("out/scores.jsonl")).unwrap()), (5, first));
    std::fs::copy(gallery.path("pictures/p00.png"), gallery.path("pictures/p90.png")).unwrap();
    std::fs::write(gallery.path("pictures/p90.txt"), "a red fox").unwrap();
    // The same bytes and prompt under another name are known.
    succeeds(&mut gallery.score("pictures", &["--scorer", &scorer]));
    assert_eq!((gallery.rated(), gallery.rows().len()), (5, 6));
    std::fs::write(gallery.path("pictures/p90.txt"), "a blue fox").unwrap();
    succeeds(&mut gallery.score("pictures", &["--scorer", &scorer]));
    assert_eq!(gallery.rated(), 6);
}

#[test]
fn a_killed_call_continues_with_what_is_missing() {
    let gallery = Gallery::new(10);
    let scorer = gallery.counting();
    let arguments = ["--scorer", &scorer, "--scorer", "background", "--batch", "2"];
    let (code, _) = signalled("KILL score 4", &mut gallery.score("pictures", &arguments));
    assert_eq!((code, gallery.rated(), gallery.path("out/scores.jsonl").exists()), (None, 4, false));
    let said = succeeds(&mut gallery.score("pictures", &arguments));
    assert!(said.contains("10 pictures, 4 rated before"), "{said}");
    assert_eq!((gallery.rated(), gallery.rows().len()), (10, 10));
    // The same numbers as without the kill.
    let whole = std::fs::read(gallery.path("out/scores.jsonl")).unwrap();
    succeeds(gallery.score("pictures", &arguments).env("XDG_CACHE_HOME", gallery.path("another")));
    assert_eq!(std::fs::read(gallery.path("out/scores.jsonl")).unwrap(), whole);
    assert_eq!(gallery.rated(), 20);
}

#[test]
fn a_signal_stops_between_batches_with_its_exit_code() {
    let gallery = Gallery::new(6);
    let arguments = ["--scorer", "background", "--batch", "2"];
    let (code, said) = signalled("TERM score 2", &mut gallery.score("pictures", &arguments));
    assert!(code == Some(143) && said.contains("stopped by SIGTERM"), "{code:?} {said}");
}

#[test]
fn one_picture_under_two_prompts_is_two_rows_and_a_repeated_row_is_left_out() {
    let gallery = Gallery::new(1);
    let row =
        |prompt: &str| format!("{{\"image\": \"pictures/p00.png\", \"caption\": \"{prompt}\", \"model\": \"m\"}}\n");
    let rows = row("all red") + &row("a dog") + &row("all red");
    std::fs::write(gallery.path("rows.jsonl"), rows).unwrap();
    let scorers = ["--scorer", &gallery.counting(), "--scorer", "background"];
    let stdout = gallery.score("rows.jsonl", &scorers).assert().success().get_output().stdout.clone();
    let said = String::from_utf8(stdout).unwrap();
    assert!(said.contains("1 rows repeat a picture and prompt and are left out"), "{said}");
    let rows = gallery.rows();
    let colours: Vec<f64> = rows.iter().map(|r| r["scores"]["command"]["named_colour"].as_f64().unwrap()).collect();
    assert!(rows.len() == 2 && colours[0] > 0.3 && colours[1] == 0.0, "{rows:?}");
    assert_eq!((rows[1]["model"].as_str(), rows[1]["prompt"].as_str()), (Some("m"), Some("a dog")));
    // `background` does not read prompts: it rated the picture once.
    assert_eq!((gallery.rated(), &json(&gallery.path("out/scores.json"))["scorers"][1]["rated"]), (2, &Value::from(1)));
}

#[test]
fn tables_name_pictures_relative_to_themselves() {
    let gallery = Gallery::new(2);
    std::fs::write(gallery.path("rows.csv"), "path,text,seed\npictures/p00.png,\"red, green\",7\n").unwrap();
    succeeds(&mut gallery.score("rows.csv", &["--scorer", &brightness()]));
    let rows = gallery.rows();
    assert_eq!((rows[0]["prompt"].as_str(), rows[0]["seed"].as_str()), (Some("red, green"), Some("7")));
    std::fs::write(gallery.path("rows.tsv"), "mine\tprompt\npictures/p01.png\tx\n").unwrap();
    succeeds(&mut gallery.score("rows.tsv", &["--scorer", "background", "--picture-column", "mine"]));
    assert_eq!(gallery.rows()[0]["picture"], "../pictures/p01.png");
}

#[test]
fn unreadable_pictures_are_left_out_up_to_a_share() {
    let gallery = Gallery::new(4);
    std::fs::write(gallery.path("pictures/p02.png"), "no picture").unwrap();
    let said = gallery.refused(&mut gallery.score("pictures", &["--scorer", "background"]), 1);
    assert!(
        said.contains("1 of 4 pictures cannot be read, above --max-bad-fraction 0.01: DIR/pictures/p02.png"),
        "{said}"
    );
    succeeds(&mut gallery.score("pictures", &["--scorer", "background", "--max-bad-fraction", "0.5"]));
    assert_eq!(gallery.rows().len(), 3);
    let summary = json(&gallery.path("out/scores.json"));
    let reason = summary["unreadable"][0]["reason"].as_str().unwrap();
    assert!(reason.starts_with("not an image: it is a text file"), "{reason}");
}

#[test]
fn comparisons_in_both_orders_become_a_share_of_wins_and_are_stored() {
    let gallery = Gallery::new(6);
    // Prefers the brighter picture by 0.9, and the first one by 0.1 more.
    let script = gallery.path("judge.py");
    let (examples, log) = (root().join("docs/examples").display().to_string(), gallery.path("rated"));
    let text = format!(
        "import sys\nsys.path.insert(0, '{examples}')\nimport brightness, scorer_protocol\n\
         def compare(items):\n    open('{}', 'a').write('x' * len(items))\n    return [0.1 + 0.8 * p for p in brightness.compare(items)]\n\
         def biased(items):\n    return [p + 0.05 for p in compare(items)]\n\
         scorer_protocol.serve({{'name': 'biased', 'version': '1'}}, compare=biased)\n",
        log.display()
    );
    write(&script, &text);
    let judge = format!("command=python3 {}", script.display());
    let json_of = |arguments: &[&str]| -> Value {
        let stdout = gallery.score("pictures", arguments).assert().success().get_output().stdout.clone();
        serde_json::from_slice(&stdout).unwrap()
    };
    let summary = json_of(&["--compare", &judge, "--scorer", "background", "--json", "--batch", "2"]);
    // Two prompts with three pictures each: 12 comparisons; answers are 0.95 and 0.15.
    let comparisons = &summary["scorers"][1]["comparisons"];
    assert_eq!((gallery.rated(), &comparisons["made"]), (12, &Value::from(12)));
    assert!((comparisons["order_inconsistency"].as_f64().unwrap() - 0.1).abs() < 1e-9, "{comparisons}");
    let shares: Vec<f64> =
        gallery.rows().iter().map(|row| row["scores"]["command"]["win_share"].as_f64().unwrap()).collect();
    for (share, expected) in shares.iter().zip([0.1, 0.1, 0.5, 0.5, 0.9, 0.9]) {
        assert!((share - expected).abs() < 1e-9, "{shares:?}");
    }
    assert_eq!(json_of(&["--compare", &judge, "--json"])["scorers"][0]["comparisons"]["made"], 0);
    assert_eq!(gallery.rated(), 12);
    let said = gallery.refused(&mut gallery.score("pictures", &["--compare", "background"]), 1);
    assert!(said.contains("scorer \"background\" cannot compare: it rates pictures and does not compare"), "{said}");
}

fn write(path: &Path, text: &str) {
    std::fs::write(path, text).unwrap();
}

#[test]
fn input_that_cannot_be_rated_is_refused_with_file_row_and_remedy() {
    let gallery = Gallery::new(2);
    let mut messages = Messages::default();
    let mut refuse = |case: &str, input: &str, scorer: &str| {
        let said = gallery.refused(&mut gallery.score(input, &["--scorer", scorer]), 1);
        messages.add(case, &said);
    };
    std::fs::create_dir(gallery.path("empty")).unwrap();
    refuse("an empty folder", "empty", "background");
    refuse("no such input", "nowhere", "background");
    write(&gallery.path("rows.txt"), "a.png\n");
    refuse("another ending", "rows.txt", "background");
    write(&gallery.path("rows.jsonl"), "\n");
    refuse("an empty file", "rows.jsonl", "background");
    write(&gallery.path("rows.jsonl"), "{\"picture\": \"pictures/p00.png\"}\n{\"prompt\": \"a\"}\n");
    refuse("a row without a picture", "rows.jsonl", "background");
    write(&gallery.path("rows.jsonl"), "{\"picture\": \"pictures/p00.png\"}\n{picture: 1}\n");
    refuse("a row that is no JSON", "rows.jsonl", "background");
    write(&gallery.path("rows.jsonl"), "{\"picture\": \"pictures/none.png\"}\n");
    refuse("a picture that is missing", "rows.jsonl", "background");
    write(&gallery.path("rows.jsonl"), "{\"picture\": \"pictures/p00.png\"}\n");
    let judge = format!("content={}", root().join("assets/judge").display());
    refuse("a row without the prompt that a scorer reads", "rows.jsonl", &judge);
    write(&gallery.path("rows.jsonl"), "{\"picture\": \"pictures/p00.png\", \"prompt\": \"red aple\"}\n");
    refuse("a prompt that a scorer does not know", "rows.jsonl", &judge);
    write(&gallery.path("rows.parquet"), "PAR1");
    refuse("a damaged parquet file", "rows.parquet", "background");
    insta::assert_snapshot!(messages);
}

#[test]
fn parquet_has_the_rows_of_jsonl_with_their_types() {
    use parquet::file::reader::{FileReader, SerializedFileReader};
    use parquet::record::Field;
    let gallery = Gallery::new(3);
    let rows = "{\"picture\": \"pictures/p00.png\", \"prompt\": \"a fox\", \"seed\": 7, \"kept\": true, \"note\": \"x\"}\n\
                {\"picture\": \"pictures/p01.png\", \"seed\": 8.5, \"kept\": false, \"note\": [1]}\n\
                {\"picture\": \"pictures/p02.png\", \"prompt\": \"Füchse\", \"note\": null}\n";
    std::fs::write(gallery.path("rows.jsonl"), rows).unwrap();
    let arguments = ["--scorer", "compressibility", "--scorer", "background", "--parquet"];
    succeeds(&mut gallery.score("rows.jsonl", &arguments));
    let read = || {
        let file = std::fs::File::open(gallery.path("out/scores.parquet")).unwrap();
        let reader = SerializedFileReader::new(file).unwrap();
        reader.get_row_iter(None).unwrap().map(|row| row.unwrap().into_columns()).collect::<Vec<Vec<(String, Field)>>>()
    };
    let found = read();
    let expected = gallery.rows();
    assert_eq!((found.len(), expected.len()), (3, 3));
    let text = |value: &Value| value.as_str().map_or(Field::Null, |text| Field::Str(text.into()));
    let field = |row: &[(String, Field)], name: &str| {
        row.iter().find(|(column, _)| column == name).unwrap_or_else(|| panic!("no {name}: {row:?}")).1.clone()
    };
    for (row, expected) in found.iter().zip(&expected) {
        assert_eq!(field(row, "picture"), text(&expected["picture"]));
        assert_eq!(field(row, "prompt"), text(&expected["prompt"]));
        for (scorer, measures) in expected["scores"].as_object().unwrap() {
            for (measure, number) in measures.as_object().unwrap() {
                let got = field(row, &format!("{scorer}.{measure}"));
                assert_eq!(got, Field::Double(number.as_f64().unwrap()), "{scorer}.{measure}");
            }
        }
    }
    let column = |name: &str| found.iter().map(|row| field(row, name)).collect::<Vec<_>>();
    assert_eq!(column("seed"), [Field::Double(7.0), Field::Double(8.5), Field::Null]);
    assert_eq!(column("kept"), [Field::Bool(true), Field::Bool(false), Field::Null]);
    assert_eq!(column("note"), [Field::Str("x".into()), Field::Str("[1]".into()), Field::Null]);
    let first = std::fs::read(gallery.path("out/scores.parquet")).unwrap();
    succeeds(&mut gallery.score("rows.jsonl", &arguments));
    assert_eq!(std::fs::read(gallery.path("out/scores.parquet")).unwrap(), first);
}
