//! The report of a run, rendered from files like those that a run leaves.

use diffpref::metrics::evaluation::{Evaluated, Evaluation, GalleryRow, Group, Measured, PictureSettings, Scored};
use diffpref::metrics::paired_bootstrap;
use diffpref::report::{State, render};
use diffpref::scorers::{Measure, Scope};
use serde_json::{Value, json};
use std::path::Path;

fn png(path: &Path, shade: u8) {
    std::fs::create_dir_all(path.parent().unwrap()).unwrap();
    image::RgbImage::from_pixel(64, 64, image::Rgb([shade, 255 - shade, 128])).save(path).unwrap();
}

/// A run folder in the middle of its 400 steps.
fn run_folder(dir: &Path) {
    std::fs::write(dir.join("resolved.toml"), "[train]\nsteps = 400\nout = \"<b>\"\n").unwrap();
    std::fs::write(dir.join("environment.json"), "{\"torch\": \"2.11\"}\n").unwrap();
    let mut lines = String::new();
    for step in 1..=300 {
        let (p, noise) = (f64::from(step) / 300.0, (f64::from(step) * 0.618_033_988_75).fract() - 0.5);
        let mut row = json!({
            "step": step, "lr": 1e-4, "loss": 0.69 - 0.1 * p + 0.1 * noise, "implicit_acc": 0.5 + 0.3 * p + 0.3 * noise,
            "margin": 1e-3 * p + 3e-3 * noise, "gap_w": -1e-3 * p + 2e-3 * noise, "gap_l": 2e-3 * p + 2e-3 * noise,
            "ref_mse_w": 0.05, "gradient_factor": 0.5 - 0.1 * p, "grad_norm": 1.0 + noise, "beta": 5000.0,
            "margin_by_t": [null, 1e-3, 2e-3, 3e-3, 2e-3, 1e-3, 5e-4, 1e-4, 0.0, -1e-4],
        });
        if step % 20 == 0 {
            row["val_margin"] = json!(1e-3 * p);
            row["val_margin_lo"] = json!(1e-3 * p - 3e-4);
            row["val_margin_hi"] = json!(1e-3 * p + 3e-4);
            row["val_implicit_acc"] = json!(0.5 + 0.35 * p);
            row["val_loss"] = json!(0.69 - 0.1 * p);
            row["val_gap_w"] = json!(-4e-4 * p);
            row["val_gap_l"] = json!(6e-4 * p);
        }
        lines.push_str(&format!("{row}\n"));
    }
    lines.push_str("{\"step\": 301, \"lo");
    std::fs::write(dir.join("metrics.jsonl"), lines).unwrap();
    let samples = dir.join("samples");
    for (step, shade) in [(0, 10), (100, 100), (200, 240)] {
        for (prompt, seed) in [(0, 0), (0, 7), (1, 0), (1, 7)] {
            png(&samples.join(format!("step-{step:06}/{prompt:02}-{seed}.png")), shade);
        }
    }
    // The grid of step 300 is being written.
    png(&samples.join("step-000300/00-0.png"), 77);
    let plan = json!({"prompts": ["a <fox>", "crab & friends"], "seeds": [0, 7]});
    std::fs::write(samples.join("prompts.json"), plan.to_string()).unwrap();
}

fn evaluation(folder: &Path) -> Evaluation {
    for name in ["a", "b"] {
        for seed in 0..3 {
            png(&folder.join(format!("pictures/{name}/0000-{seed}.png")), if name == "a" { 30 } else { 200 });
        }
    }
    let values = |shift: f64| (0..40).map(|i| (f64::from(i * 7 % 10) / 20.0 + shift).min(1.0)).collect::<Vec<_>>();
    let group = |name: &str, prompts, seeds| Group { name: name.into(), prompts, seeds };
    let measured = |measure: Measure, low: f64, high: f64| {
        let compared = paired_bootstrap(&[values(low), values(high)]).unwrap();
        Measured { measure, groups: ["held_out", "all"].map(|group| (group.to_string(), compared.clone())).into() }
    };
    let scored = |name: &str, measures| Scored {
        name: name.into(),
        about: "A small network".into(),
        path: "judge".into(),
        accuracy: [("style_on_held_out_names".to_string(), 0.985)].into(),
        measures,
    };
    let style = vec![
        measured(Measure::real("log_odds", "log-odds", None, None, Scope::Picture), -2.0, 1.5),
        measured(Measure::decision("flat_share", Scope::Picture), 0.2, 0.45),
    ];
    let content = vec![measured(Measure::decision("content_accuracy", Scope::Prompt), 0.4, 0.39)];
    let model = |name: &str, folder: &str| Evaluated {
        name: name.into(),
        source: "model".into(),
        key: "00".into(),
        pictures: format!("pictures/{folder}").into(),
        diversity: Some(0.125),
    };
    let files = |name: &str| (0..3).map(|seed| format!("pictures/{name}/0000-{seed}.png").into()).collect::<Vec<_>>();
    Evaluation {
        models: vec![model("before", "a"), model("after", "b")],
        groups: vec![group("held_out", 32, 8), group("all", 160, 3)],
        scorers: vec![scored("style", style), scored("content", content)],
        warnings: vec!["the scorer \"style\" also labelled the training data".into()],
        settings: PictureSettings {
            scheduler: "ddim".into(),
            steps: 10,
            guidance_scale: 7.5,
            width: 64,
            height: 64,
            device: "cpu".into(),
            dtype: "float32".into(),
        },
        gallery: vec![GalleryRow {
            prompt: "fox".into(),
            held_out: true,
            seeds: vec![0, 1, 2],
            files: vec![files("a"), files("b")],
        }],
        folder: folder.to_path_buf(),
    }
}

#[test]
fn the_page_opens_with_the_verdict_and_loads_nothing() {
    let dir = tempfile::tempdir().unwrap();
    run_folder(dir.path());
    let verdict = render(dir.path(), Some(&evaluation(&dir.path().join("eval")))).unwrap();
    assert_eq!(verdict.state, State::Learning);
    let html = std::fs::read_to_string(dir.path().join("report.html")).unwrap();
    let place = |text: &str| html.find(text).unwrap_or_else(|| panic!("{text:?} is not on the page"));
    assert!(place("The model is learning the preference.") < place("Held-out margin"));
    assert!(place("Held-out margin") < place("flat share, held-out prompts"));
    assert!(place("after 200 steps") < place("Gradient norm"));
    assert!(html.contains("32 held-out prompts with 8 pictures each, all 160 prompts with 3 pictures each"));
    assert!(html.contains("<b>log odds (log-odds), all prompts</b>") && html.contains("<b>Warning:</b> the scorer"));
    assert!(html.contains("step 300 of 400, not finished"));
    for forbidden in ["<script", "<link", "src=\"http", "href=", "url(", "@import"] {
        assert!(!html.contains(forbidden), "the page has {forbidden}");
    }
    assert!(html.contains("a &lt;fox&gt;") && html.contains("crab &amp; friends") && !html.contains("<b>\""));
    if let Some(keep) = std::env::var_os("REPORT_TEST_KEEP") {
        std::fs::write(keep, html).unwrap();
    }
}

#[test]
fn report_json_has_the_figures_under_their_promised_keys() {
    let dir = tempfile::tempdir().unwrap();
    run_folder(dir.path());
    render(dir.path(), Some(&evaluation(&dir.path().join("eval")))).unwrap();
    let report: Value = serde_json::from_slice(&std::fs::read(dir.path().join("report.json")).unwrap()).unwrap();
    assert_eq!(report["verdict"]["state"], "learning");
    assert_eq!((&report["step"], &report["steps"]), (&json!(300), &json!(400)));
    for (scorer, measure) in [(0, "log_odds"), (0, "flat_share"), (1, "content_accuracy")] {
        let measures = report["evaluation"]["scorers"][scorer]["measures"].as_array().unwrap();
        let measure = measures.iter().find(|found| found["name"] == measure).unwrap();
        for group in ["held_out", "all"].map(|group| &measure["groups"][group]) {
            for end in ["mean", "lo", "hi"] {
                let numbers = [&group["models"][0], &group["models"][1], &group["differences"][0]];
                assert!(numbers.iter().all(|interval| interval[end].is_f64()), "{group}");
            }
        }
    }
}

#[test]
fn a_run_that_has_only_begun_has_a_report() {
    let dir = tempfile::tempdir().unwrap();
    let verdict = render(dir.path(), None).unwrap();
    assert_eq!(verdict.state, State::Unmeasured);
    assert!(std::fs::read_to_string(dir.path().join("report.html")).unwrap().contains("no step yet"));
}

#[test]
fn a_damaged_line_of_the_metrics_is_named() {
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("metrics.jsonl"), "{\"step\": 1}\n{\"step\": \n{\"step\": 3}\n").unwrap();
    let error = format!("{:#}", render(dir.path(), None).unwrap_err());
    assert!(error.contains("metrics.jsonl, line 2"), "{error}");
}

#[test]
fn a_sample_that_is_no_picture_is_named() {
    let dir = tempfile::tempdir().unwrap();
    run_folder(dir.path());
    std::fs::write(dir.path().join("samples/step-000200/01-0.png"), b"no picture").unwrap();
    let error = format!("{:#}", render(dir.path(), None).unwrap_err());
    assert!(error.contains("01-0.png"), "{error}");
}
