//! A whole evaluation of the demo model against itself, small: files, figures, and what a second call does.

use crate::support::{diffpref, root};
use diffpref::denoising::{NamedModel, models_of_run};
use diffpref::eval::{Request, Teachers, evaluate};
use diffpref::metrics::evaluation::Evaluation;
use diffpref::progress::{Progress, Signal, Silent, Stop, Stopped};
use diffpref::report::{Evaluations, render_evaluations};
use diffpref::scorers::{Better, ScorerSpec, declaration, names};
use serde_json::Value;
use std::cell::RefCell;
use std::path::{Path, PathBuf};
use tch::{Device, Kind};

/// A registered scorer from its bundled files.
fn scorer(name: &str) -> ScorerSpec {
    let example = declaration(name).unwrap().example;
    let path = if example.is_empty() { PathBuf::new() } else { root().join(example) };
    ScorerSpec { name: name.into(), path }
}

/// All scorers but nearest_drawing, which knows the names of the test bed, not those of this model, and http, which needs
/// a server.
fn used() -> Vec<&'static str> {
    names().into_iter().filter(|name| !["nearest_drawing", "http"].contains(name)).collect()
}

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
        prompt_column: None,
        scorers: used().into_iter().map(scorer).collect(),
        teachers: Teachers::default(),
        seeds: 2,
        other_seeds: 1,
        steps: 2,
        guidance_scale: Some(3.0),
        resolution: None,
        device: Device::Cpu,
        kind: Kind::Float,
        batch: 4,
        out: dir.join("eval"),
        pictures: None,
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
    let groups: Vec<_> = first.groups.iter().map(|group| (group.name.as_str(), group.prompts, group.seeds)).collect();
    assert_eq!(groups, [("held_out", 1, 2), ("all", 2, 1)]);
    let scorers: Vec<&str> = first.scorers.iter().map(|scored| scored.name.as_str()).collect();
    assert_eq!(scorers, used());
    for measured in first.scorers.iter().flat_map(|scored| &scored.measures) {
        for compared in ["held_out", "all"].map(|group| &measured.groups[group]) {
            assert_eq!((compared.differences[0].mean, compared.differences[0].hi), (0.0, 0.0));
            let wins: Vec<f64> = compared.win_rates.iter().map(|rate| rate.mean).collect();
            let compares = !measured.measure.is_share() && measured.measure.better != Better::Neither;
            assert_eq!(wins, if compares { vec![0.5] } else { vec![] });
            let third = compared.best_third.as_ref();
            assert_eq!(third.map(|third| third.differences[0].mean), compares.then_some(0.0));
            let shares = compared.distribution.iter().flat_map(|distribution| &distribution.models);
            assert!(shares.into_iter().all(|bins| bins.len() == 10 && (bins.iter().sum::<f64>() - 1.0).abs() < 1e-9));
        }
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
    let text = |evaluation: &Evaluation| serde_json::to_string(evaluation).unwrap();
    assert_eq!(text(&second), text(&first));
    assert_eq!(text(&Evaluation::read(&request.out).unwrap()), text(&first));
    assert_eq!(means_of_rows(&request.out), second.find("style", "log_odds", "held_out").unwrap().models[0].mean);

    let evaluations = Evaluations { pictures: Some(&second), ..Evaluations::default() };
    render_evaluations(&request.out, evaluations).unwrap();
    let html = std::fs::read_to_string(request.out.join("report.html")).unwrap();
    assert!(html.contains("flat share, held-out prompts") && html.contains("no more than chance"));
}

/// The mean of the first model's log-odds of the flat style over the held-out prompt, from `scores.jsonl`.
fn means_of_rows(out: &Path) -> f64 {
    let text = std::fs::read_to_string(out.join("scores.jsonl")).unwrap();
    let rows: Vec<Value> = text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(rows.len(), 2 * 3);
    for row in &rows {
        assert!(out.join(row["picture"].as_str().unwrap()).is_file(), "{row}");
        assert_eq!(row["scores"].as_object().unwrap().len(), used().len(), "{row}");
    }
    let held_out = rows.iter().filter(|row| row["model"] == "before" && row["held_out"] == true);
    let numbers: Vec<f64> = held_out.map(|row| row["scores"]["style"]["log_odds"].as_f64().unwrap()).collect();
    numbers.iter().sum::<f64>() / numbers.len() as f64
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
    assert!(refusal(&|r| r.scorers.clear()).contains("there is no scorer"));
    assert!(refusal(&|r| r.seeds = 0).contains("--seeds and --other-seeds: expected at least 1"));
    assert!(refusal(&|r| r.scorers[0].path = "nowhere".into()).contains("cannot open the scorer \"style\""));
    for name in ["content", "nearest_pixels"] {
        let unknown = refusal(&|r| {
            std::fs::write(&r.prompts, "{\"prompt\": \"dragon fruit pie\"}\n").unwrap();
            r.scorers = vec![scorer(name)];
        });
        assert!(unknown.contains("names.jsonl: scorer") && unknown.contains("dragon fruit pie"), "{unknown}");
    }
}

#[test]
fn options_of_earlier_versions_name_the_new_form() {
    let said = |option: &str| {
        let run = ["eval", "--run", "runs/any", "--prompts", "names.jsonl", "--scorer", "compressibility", option, "x"];
        let output = diffpref().args(run).output().unwrap();
        assert_eq!(output.status.code(), Some(2));
        String::from_utf8_lossy(&output.stderr).into_owned()
    };
    assert!(said("--judge").contains("--scorer style=DIR --scorer content=DIR"), "{}", said("--judge"));
    assert!(said("--drawings").contains("--scorer nearest_pixels=DIR"), "{}", said("--drawings"));
    assert!(said("--content-seeds").contains("--other-seeds N"), "{}", said("--content-seeds"));
}

#[test]
fn a_folder_that_is_no_run_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let error = format!("{:#}", models_of_run(dir.path()).unwrap_err());
    assert!(error.contains("resolved.toml"), "{error}");
}
