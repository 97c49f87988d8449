//! `diffpref generate --compare`: the real binary, its pictures against those of single calls, and its refusals.

use crate::support::{copy, diffpref, files, json, lora, model, names, rgb};
use assert_cmd::Command;
use base64::prelude::{BASE64_STANDARD, Engine as _};
use serde_json::Value;
use std::path::Path;

/// A comparison of `sides` into `out`: two prompts, two seeds, 3 steps on the CPU.
fn compare(out: &Path, sides: &[&str], more: &[&str]) -> Command {
    let mut command = diffpref();
    command.args([
        "generate",
        "--prompt",
        "a <b>black</b> cat & \"dog\"",
        "--prompt",
        "red panda",
        "--num-images",
        "2",
    ]);
    command.args(["--seed", "5", "--device", "cpu", "--steps", "3", "--out"]).arg(out);
    command.args(more).arg("--compare").args(sides);
    command
}

fn with_model(out: &Path, sides: &[&str], more: &[&str]) -> Command {
    compare(out, sides, &[&["--model", model().to_str().unwrap()], more].concat())
}

/// stderr of a refused comparison; nothing was made.
fn refused(command: &mut Command, code: i32, out: &Path) -> String {
    let assert = command.assert().failure().code(code);
    let text = String::from_utf8_lossy(&assert.get_output().stderr).into_owned();
    assert!(!text.contains("panicked") && !text.contains("internal error"), "{text}");
    assert!(!out.exists(), "{text}");
    text
}

#[test]
fn every_side_holds_the_pictures_of_a_call_of_its_own() {
    let dir = tempfile::tempdir().unwrap();
    let out = dir.path().join("out");
    let tuned = format!("tuned=--lora '{}:0.5' --eta 1", lora().display());
    let other = format!("other={}", model().display());
    let call = with_model(&out, &["base=", &tuned, &other], &["--json", "--guidance-scale", "3"]).assert().success();
    let report: Value = serde_json::from_slice(&call.get_output().stdout).unwrap();
    let sides: Vec<&str> = report["sides"].as_array().unwrap().iter().map(|s| s["name"].as_str().unwrap()).collect();
    assert_eq!(sides, ["base", "tuned", "other"]);
    assert_eq!(names(&out), ["base", "compare.html", "compare.png", "other", "tuned"]);

    let alone = dir.path().join("alone");
    let scaled = format!("{}:0.5", lora().display());
    let mut single = diffpref();
    single.args(["generate", "--prompt", "a <b>black</b> cat & \"dog\"", "--prompt", "red panda", "--num-images", "2"]);
    single.args([
        "--seed",
        "5",
        "--device",
        "cpu",
        "--steps",
        "3",
        "--guidance-scale",
        "3",
        "--eta",
        "1",
        "--lora",
        &scaled,
    ]);
    single.arg("--model").arg(model()).arg("--out").arg(&alone).assert().success();
    assert_eq!(files(&out.join("tuned")), files(&alone), "pictures and records, to the byte");
    let pictures = |side: &str| {
        let names = ["000000-00.png", "000000-01.png", "000001-00.png", "000001-01.png"];
        names.map(|name| rgb(&out.join(side).join(name)))
    };
    assert_eq!(pictures("base"), pictures("other"), "one model under two names");
    assert_ne!(pictures("base"), pictures("tuned"));
}

#[test]
fn the_grid_has_a_row_per_prompt_and_seed_and_a_column_per_side() {
    let dir = tempfile::tempdir().unwrap();
    let out = dir.path().join("out");
    with_model(&out, &["base=", "more=--steps 4"], &[]).assert().success();
    let sheet = rgb(&out.join("compare.png"));
    assert_eq!(sheet.dimensions(), (2 * 32 + 2, 4 * 32 + 3 * 2), "gaps of 2 pixels");
    for (row, file) in ["000000-00.png", "000000-01.png", "000001-00.png", "000001-01.png"].iter().enumerate() {
        for (column, side) in ["base", "more"].iter().enumerate() {
            let (x, y) = (column as u32 * 34, row as u32 * 34);
            let cell = image::imageops::crop_imm(&sheet, x, y, 32, 32).to_image();
            assert_eq!(cell, rgb(&out.join(side).join(file)), "{side}/{file}");
        }
    }
}

#[test]
fn the_page_holds_every_picture_and_escapes_what_people_wrote() {
    let dir = tempfile::tempdir().unwrap();
    let out = dir.path().join("out");
    with_model(&out, &["base=", "more=--steps 4 --negative-prompt '<i>'"], &[]).assert().success();
    let page = std::fs::read_to_string(out.join("compare.html")).unwrap().replace("&#x2f;", "/");
    assert!(page.contains("a &lt;b&gt;black&lt;/b&gt; cat &amp; &quot;dog&quot;") && !page.contains("<b>black"));
    assert!(page.contains("<td>&lt;i&gt;</td>"), "a side's own options too");
    for side in ["base", "more"] {
        for file in ["000000-00.png", "000000-01.png", "000001-00.png", "000001-01.png"] {
            let bytes = std::fs::read(out.join(side).join(file)).unwrap();
            let address = format!("src=\"data:image/png;base64,{}\"", BASE64_STANDARD.encode(&bytes));
            assert!(page.contains(&address), "{side}/{file}");
            assert!(page.contains(&format!("href=\"{side}/{file}\"")), "{side}/{file}");
        }
    }
    for loads in ["http:", "https:", "<script", "<link", "url("] {
        assert!(!page.contains(loads), "{loads}: the page loads nothing");
    }
    assert!(page.contains("<th>steps</th><td>3</td><td>4</td>"));
}

#[test]
fn a_comparison_goes_on_where_it_was_and_takes_a_side_more() {
    let dir = tempfile::tempdir().unwrap();
    let out = dir.path().join("out");
    with_model(&out, &["base=", "more=--steps 4"], &[]).assert().success();
    let again = with_model(&out, &["base=", "more=--steps 4"], &[]).assert().failure().code(1);
    let text = String::from_utf8_lossy(&again.get_output().stderr).into_owned();
    assert!(text.contains("holds pictures already (compare.png)"), "{text}");
    std::fs::remove_file(out.join("more/000001-00.png")).unwrap();
    let call = with_model(&out, &["base=", "more=--steps 4", "most=--steps 5"], &["--resume", "--json"]);
    let output = { call }.assert().success().get_output().stdout.clone();
    let report: Value = serde_json::from_slice(&output).unwrap();
    let painted: Vec<u64> =
        report["sides"].as_array().unwrap().iter().map(|s| s["painted"].as_u64().unwrap()).collect();
    assert_eq!(painted, [0, 1, 4]);
    let other = with_model(&out, &["base=--eta 1", "more=--steps 4"], &["--resume"]).assert().failure().code(1);
    let text = String::from_utf8_lossy(&other.get_output().stderr).into_owned();
    assert!(text.contains("--compare base: ") && text.contains("was made with another eta"), "{text}");
}

#[test]
fn sides_that_cannot_be_compared_are_refused_before_anything_is_made() {
    let dir = tempfile::tempdir().unwrap();
    let out = dir.path().join("out");
    let with = |sides: &[&str], more: &[&str]| refused(&mut with_model(&out, sides, more), 2, &out);
    assert!(with(&["base="], &[]).contains("--compare: expected at least two sides"));
    assert!(with(&["a=", "A=--steps 2"], &[]).contains("--compare: two sides are called A"));
    assert!(
        with(&["a=", "b=--seed 3"], &[])
            .contains("b: --seed is no option of a side: all sides start from the same noise")
    );
    assert!(with(&["a=", "b=--steps 0"], &[]).contains("--compare b: --steps 0: 0 sampling steps"));
    assert!(with(&["a=", "b=--negative-merge 1,1"], &[]).contains("--compare b: --negative-merge 1,1: there is no"));
    let none = refused(&mut compare(&out, &["a=--steps 2", "b=--steps 3"], &[]), 2, &out);
    assert!(none.contains("--compare a: --model MODEL is missing"), "{none}");
    let missing = refused(&mut with_model(&out, &["a=", "b=/no/such/model"], &[]), 1, &out);
    assert!(missing.contains("--compare b: ") && missing.contains("/no/such/model"), "{missing}");
}

#[test]
fn models_of_other_sizes_start_from_no_common_noise() {
    let dir = tempfile::tempdir().unwrap();
    let (out, large) = (dir.path().join("out"), dir.path().join("large"));
    copy(&model(), &large);
    let mut config = json(&large.join("unet/config.json"));
    config["sample_size"] = 8.into();
    std::fs::write(large.join("unet/config.json"), config.to_string()).unwrap();
    let sides = [model().display().to_string(), large.display().to_string()];
    let sides: Vec<&str> = sides.iter().map(String::as_str).collect();
    let text = refused(&mut compare(&out, &sides, &[]), 2, &out);
    assert!(
        text.contains("--compare: model paints 32 x 32 pixels and large 16 x 16") && text.contains("--width"),
        "{text}"
    );
    compare(&out, &sides, &["--width", "16", "--height", "16"]).assert().success();
}
