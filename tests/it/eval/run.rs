//! A whole evaluation of the demo model against itself, small: files, figures, and what a second call does.

use crate::support::root;
use diffpref::eval::figures::Evaluation;
use diffpref::eval::{NamedModel, Request, evaluate, models_of_run};
use diffpref::progress::{Progress, Signal, Silent, Stop, Stopped};
use diffpref::report::render_evaluation;
use std::cell::RefCell;
use std::path::Path;
use tch::{Device, Kind};

/// Two names of the demo, one of them held out.
fn request(dir: &Path) -> Request {
    let rows = std::fs::read_to_string(root().join("assets/emoji/names.jsonl")).unwrap();
    let with = |text: &str| rows.lines().find(|row| row.contains(text)).unwrap().to_string();
    let prompts = dir.join("names.jsonl");
    std::fs::write(&prompts, format!("{}\n{}\n", with("\"held_out\": true"), with("\"held_out\": false"))).unwrap();
    let model =
        |name: &str| format!("{name}={}", root().join("assets/demo-model").display()).parse::<NamedModel>().unwrap();
    Request {
        models: vec![model("before"), model("same")],
        prompts,
        judge: Some(root().join("assets/judge")),
        drawings: Some(root().join("assets/emoji/drawings")),
        labellers: Vec::new(),
        seeds: 2,
        content_seeds: 1,
        steps: 2,
        guidance_scale: Some(3.0),
        resolution: None,
        device: Device::Cpu,
        kind: Kind::Float,
        batch: 4,
        out: dir.join("eval"),
        cache_dir: dir.join("cache"),
    }
}

/// Keeps the lines.
#[derive(Default)]
struct Lines(RefCell<Vec<String>>);

impl Progress for Lines {
    fn begin(&self, _: &str, _: u64, _: u64) {}
    fn advance(&self, _: u64, _: &str) {}
    fn end(&self) {}
    fn line(&self, text: &str) {
        self.0.borrow_mut().push(text.into());
    }
}

#[test]
fn a_model_against_itself_differs_by_nothing_and_a_second_call_paints_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let request = request(dir.path());
    let first = evaluate(&request, &Silent, &Stop::default()).unwrap();
    assert_eq!((first.names, first.held_out_names), (2, 1));
    let judges: Vec<&str> = first.judges.iter().map(|judged| judged.judge.as_str()).collect();
    assert_eq!(judges, ["trained", "nearest_pixels", "nearest_latents"]);
    for judged in &first.judges {
        assert_eq!((judged.flat_share.differences[0].mean, judged.content_accuracy.differences[0].hi), (0.0, 0.0));
    }
    let album = request.out.join(&first.models[0].pictures);
    for file in ["0000-0.png", "0000-1.png", "0001-0.png", "index.jsonl"] {
        assert!(album.join(file).is_file(), "{file}");
    }
    assert!(!album.join("0001-1.png").exists());
    assert!(request.out.join("sheet.png").is_file());

    let lines = Lines::default();
    let second = evaluate(&request, &lines, &Stop::default()).unwrap();
    assert!(lines.0.borrow().iter().all(|line| line.contains("0 pictures made")), "{:?}", lines.0.borrow());
    assert_eq!(second.figures(), first.figures());
    assert_eq!(Evaluation::read(&request.out).unwrap().figures(), first.figures());

    render_evaluation(&request.out, &second).unwrap();
    let html = std::fs::read_to_string(request.out.join("report.html")).unwrap();
    assert!(html.contains("Trained judge") && html.contains("no more than chance"));
}

#[test]
fn other_options_are_other_pictures() {
    let dir = tempfile::tempdir().unwrap();
    let mut request = request(dir.path());
    let first = evaluate(&request, &Silent, &Stop::default()).unwrap();
    request.steps = 3;
    assert_ne!(evaluate(&request, &Silent, &Stop::default()).unwrap().models[0].pictures, first.models[0].pictures);
}

#[test]
fn a_signal_stops_and_keeps_what_is_painted() {
    let dir = tempfile::tempdir().unwrap();
    let stop = Stop::default();
    stop.request(Signal::Terminate);
    let error = evaluate(&request(dir.path()), &Silent, &stop).unwrap_err();
    assert!(error.downcast_ref::<Stopped>().is_some(), "{error:#}");
}

#[test]
fn what_the_options_lack_is_said() {
    let dir = tempfile::tempdir().unwrap();
    let refusal = |change: &dyn Fn(&mut Request)| {
        let mut request = request(dir.path());
        change(&mut request);
        format!("{:#}", evaluate(&request, &Silent, &Stop::default()).unwrap_err())
    };
    assert!(refusal(&|r| r.models.truncate(1)).contains("at least two, found 1"));
    assert!(refusal(&|r| r.models[1].name = "before".into()).contains("two models have this name"));
    assert!(refusal(&|r| (r.judge, r.drawings) = (None, None)).contains("there is no judge"));
    let unknown =
        refusal(&|r| std::fs::write(&r.prompts, "{\"prompt\": \"dragon fruit pie\", \"slug\": \"x\"}\n").unwrap());
    assert!(unknown.contains("dragon fruit pie") || unknown.contains("x.png"), "{unknown}");
}

#[test]
fn a_folder_that_is_no_run_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let error = format!("{:#}", models_of_run(dir.path()).unwrap_err());
    assert!(error.contains("resolved.toml"), "{error}");
}
