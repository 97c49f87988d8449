//! `configs/`: every method has a recipe for the demo and the published ones, they say what docs/methods.md says, and
//! `diffpref train` takes them.

use crate::support::each::{one_test_each, one_test_per_recipe};
use crate::support::recipes::{file, items_a_step, number, planned, recipe, text, train};
use crate::support::{self, golden, root};
use diffpref::objectives::{self, REGISTRY};
use serde_json::{Value, json};
use std::collections::BTreeSet;
use std::path::Path;

/// Every recipe on pairs, lists or labels.
const NAMES: &[&str] = demo_recipe_has_the_budget_and_passes_a_dry_run::NAMES;
/// What is dpo with other tables beside [method].
const PLUG_INS: &[&str] = &["timestep-aware", "dense-timesteps", "balanced", "videodpo"];
const LISTS: &[&str] = &["rankdpo", "lipo_lambda", "plackett_luce", "mpo"];
/// Recipes of methods that sample while they train: recipes_sampling.rs.
const SAMPLING: &[&str] = &["d3po", "spo", "tailorpo", "ddpo", "dpok", "grpo", "pref-grpo", "dense-reward", "self_npo"];
const FAMILIES: &[&str] = &["sd15", "sdxl"];
#[test]
fn every_name_has_its_three_recipes_and_there_are_no_others() {
    let kinds = FAMILIES.iter().chain(&["demo"]);
    let mut expected: BTreeSet<String> =
        kinds.flat_map(|kind| NAMES.iter().chain(SAMPLING).map(move |name| format!("{name}-{kind}.toml"))).collect();
    expected.extend(["quickstart.toml".into(), "synpic.toml".into(), "self-labelled.toml".into()]);
    // Sweeps and recipes of train-scorer have tests of their own.
    let others = |name: &String| name == "sweeps" || name.starts_with("scorer-");
    let found: BTreeSet<_> = support::names(&root().join("configs")).into_iter().filter(|name| !others(name)).collect();
    assert_eq!(found, expected);
}

#[test]
fn every_method_has_a_recipe_of_its_name() {
    for entry in REGISTRY {
        assert_ne!(NAMES.contains(&entry.name), SAMPLING.contains(&entry.name), "{} has no recipe", entry.name);
    }
    for name in NAMES.iter().chain(SAMPLING) {
        let method = match *name {
            name if PLUG_INS.contains(&name) => "dpo",
            "pref-grpo" => "grpo",
            name => name,
        };
        assert!(objectives::find(method).is_some(), "{method} is not built");
        for kind in FAMILIES.iter().chain(&["demo"]) {
            assert_eq!(text(&recipe(name, kind), "method", "name"), Some(method), "{name}-{kind}");
        }
    }
}

#[test]
fn every_recipe_names_a_page_that_has_its_command() {
    let index = std::fs::read_to_string(root().join("docs/methods/README.md")).unwrap();
    for name in NAMES.iter().chain(SAMPLING) {
        for kind in FAMILIES.iter().chain(&["demo"]) {
            let recipe = std::fs::read_to_string(file(name, kind)).unwrap();
            // The title may be wrapped.
            let words = recipe.replace("\n# ", " ");
            let (_, rest) = words.split_once("(docs/methods/").unwrap_or_else(|| panic!("{name}-{kind} names no page"));
            let (page, _) = rest.split_once(')').unwrap();
            let shown = std::fs::read_to_string(root().join("docs/methods").join(page));
            let shown = shown.unwrap_or_else(|e| panic!("{name}-{kind}: {page}: {e}"));
            let command = format!("diffpref train configs/{name}-demo.toml");
            assert!(shown.contains(&command), "{page} does not say `{command}`");
            assert!(index.contains(&format!("({page}")), "the index does not lead to {page}");
        }
        let listed = index.lines().filter(|l| l.starts_with("| [")).any(|l| {
            let names = l.split_once(']').unwrap().0.trim_start_matches("| [");
            names.split(", ").any(|n| n == *name)
        });
        assert!(listed, "the index has no row for {name}");
    }
}

fn assert_has_the_demo_budget(name: &str) {
    let recipe = recipe(name, "demo");
    let images = match name {
        "kto" | "pmpo" => 1.0,
        name if LISTS.contains(&name) => 4.0,
        _ => 2.0,
    };
    let steps = number(&recipe, "train", "steps").unwrap();
    assert_eq!(steps * items_a_step(&recipe) * images, 1600.0, "{name}");
    assert_eq!(text(&recipe, "model", "path"), Some("assets/testbed/model"), "{name}");
    assert!(recipe["train"].get("out").is_none(), "{name}");
    assert_eq!(number(&recipe, "validate", "every"), Some(25.0), "{name}");
    let sample = |key: &str| number(&recipe, "sample", key).unwrap();
    assert_eq!(sample("every"), steps, "{name}: pictures at the start and at the end");
    assert!(sample("steps") <= 10.0, "{name}");
    // The default is four prompts.
    assert_eq!(recipe["sample"]["seeds"].as_array().map(Vec::len), Some(1), "{name}");
    assert!(recipe["sample"].get("prompts").is_none(), "{name}");
}

/// docs/methods.md 20, Defaults: beta, rate that the optimizer sees, items a step, steps, warm-up.
fn defaults(name: &str, family: &str) -> (Option<f64>, f64, f64, f64, f64) {
    let xl = family == "sdxl";
    let by = |sd15: f64, sdxl: f64| if xl { sdxl } else { sd15 };
    let dpo_warmup = by(500.0, 200.0);
    match name {
        "sft" | "pmpo" => (None, 2.048e-5, 2048.0, 2000.0, dpo_warmup),
        "inpo" => (Some(by(2000.0, 5000.0)), 1.024e-5, 1024.0, 400.0, 200.0),
        "smpo" => (Some(by(2000.0, 5000.0)), 1.024e-5, 1024.0, 200.0, 100.0),
        "npo" => (Some(by(1000.0, 2000.0)), 5e-6, by(64.0, 60.0), 5000.0, 0.0),
        "dspo_score" => (Some(0.001), 2.048e-5, 2048.0, 1000.0, dpo_warmup),
        "dspo_sq" => (Some(5000.0), 2.048e-5, 2048.0, 600.0, 200.0),
        "dmpo" => (Some(by(2000.0, 6000.0)), by(2.048e-5, 2.048e-6), 2048.0, 2000.0, 500.0),
        "kto" => (Some(5000.0), 1e-7, 8.0, 10_000.0, 1000.0),
        "mapo" => (None, 1e-5, 128.0, 2000.0, 0.0),
        "videodpo" => (Some(5000.0), 6e-6, 2048.0, 2000.0, dpo_warmup),
        name if LISTS.contains(&name) => (Some(5000.0), 1.024e-5, 1024.0, 400.0, 200.0),
        _ => (Some(5000.0), 2.048e-5, 2048.0, 2000.0, dpo_warmup),
    }
}

fn assert_has_the_settings_of_the_methods_page(name: &str, family: &str) {
    let recipe = recipe(name, family);
    let (beta, lr, items, steps, warmup) = defaults(name, family);
    assert_eq!(number(&recipe, "method", "beta"), beta, "{name}-{family}");
    assert_eq!(items_a_step(&recipe), items, "{name}-{family}");
    let factor = if text(&recipe, "optim", "lr_scale") == Some("global_batch") { items } else { 1.0 };
    let rate = number(&recipe, "optim", "lr").unwrap() * factor;
    assert!((rate / lr - 1.0).abs() < 1e-9, "{name}-{family}: {rate}, expected {lr}");
    assert_eq!(number(&recipe, "train", "steps"), Some(steps), "{name}-{family}");
    assert_eq!(number(&recipe, "optim", "warmup_steps").unwrap_or(0.0), warmup, "{name}-{family}");
}

fn assert_fits_one_card(name: &str) {
    let (sd15, sdxl) = (recipe(name, "sd15"), recipe(name, "sdxl"));
    assert_eq!(text(&sd15, "model", "path"), Some("stable-diffusion-v1-5/stable-diffusion-v1-5"), "{name}");
    assert_eq!(text(&sdxl, "model", "path"), Some("stabilityai/stable-diffusion-xl-base-1.0"), "{name}");
    assert_eq!(text(&sdxl, "train", "gradient_checkpointing"), Some("blocks"), "{name}");
    let lora = sdxl.contains_key("lora");
    assert_eq!(lora, name == "npo");
    // mapo is published with AdamW.
    let optimizer = if lora || name == "mapo" { None } else { Some("adafactor") };
    assert_eq!(text(&sdxl, "optim", "name"), optimizer, "{name}");
    let inverts = ["inpo", "smpo"].contains(&name);
    assert_eq!(text(&sd15, "model", "unet"), inverts.then_some("runs/sft-sd15/final/unet"), "{name}");
}

fn assert_is_a_demo_recipe(name: &str) {
    assert_has_the_demo_budget(name);
    let dir = tempfile::tempdir().unwrap();
    let plan = planned(name, "demo", dir.path(), &[]);
    let method = if PLUG_INS.contains(&name) { "dpo" } else { name };
    assert_eq!(plan["method"], method, "{name}");
    assert_eq!(plan["missing_images"], 0, "{name}");
    assert!(plan["validation_pairs"].as_u64().unwrap() >= 4, "{name}: {plan}");
}

one_test_per_recipe!(demo_recipe_has_the_budget_and_passes_a_dry_run: super::assert_is_a_demo_recipe);

/// Trains one step; `own` are metrics that few methods have.
fn assert_trains(name: &str) {
    let dir = tempfile::tempdir().unwrap();
    let short = ["train.steps", "validate.every", "sample.every"].into_iter().zip(["1", "0", "0"].map(String::from));
    let short: Vec<(&str, String)> = short.collect();
    train(name, "demo", dir.path(), &short).assert().success();
    let lines = support::metrics(&dir.path().join(name));
    assert_eq!(lines.len(), 1, "{name}");
    let own: &[&str] = match name {
        "sft" => &["model_mse_w"],
        "smpo" => &["tau_rms", "weight_hist"],
        "lipo_lambda" | "videodpo" => &["weight_mean", "loss_unweighted"],
        "kto" => &["kl"],
        "pmpo" => &["reward_w"],
        "bco" => &["bco_threshold"],
        _ => &["margin"],
    };
    for key in own.iter().chain(&["loss", "grad_norm"]) {
        assert!(lines[0].get(*key).is_some_and(|value| !value.is_null()), "{name} has no {key}: {}", lines[0]);
    }
    assert!(lines[0]["grad_norm"].as_f64().unwrap() > 0.0, "{name}: {}", lines[0]);
    assert!(dir.path().join(name).join("final/pytorch_lora_weights.safetensors").exists(), "{name}");
}

// One of every way in which a step differs.
one_test_each! {
    demo_recipe_trains: super::assert_trains;
    sft timestep_aware("timestep-aware") smpo npo lipo_lambda kto todo dspo_sq bco videodpo
}

/// Data of every kind that a published recipe asks for: eight items of small pictures.
fn write_data(dir: &Path) {
    let picture = |name: String, shade: u8| {
        let image = image::RgbImage::from_fn(36, 32, |x, y| image::Rgb([(x * 7) as u8, (y * 8) as u8, shade]));
        image.save(dir.join(&name)).unwrap();
        name
    };
    let scorers = ["pickscore", "hpsv21", "clip", "aesthetic", "mean_confidence"];
    let (mut pairs, mut lists) = (String::new(), String::new());
    for i in 0..8u8 {
        let images = [0, 1, 2].map(|k| picture(format!("{i}-{k}.png"), i * 20 + k * 5));
        let (prompt, gap) = (format!("a drawing of number {i}"), 0.01 * f64::from(i + 1));
        let scores = |values: &[f64]| scorers.iter().map(|s| (s.to_string(), json!(values))).collect::<Value>();
        let mut pair = json!({"id": format!("p{i}"), "prompt": prompt, "winner": images[0], "loser": images[1],
            "scores": scores(&[0.2 + gap, 0.2]), "weight": 0.1 + gap});
        if i == 3 {
            pair["label"] = json!("tie");
        }
        pairs += &format!("{pair}\n");
        let list = json!({"id": format!("l{i}"), "prompt": prompt, "images": images, "scores": scores(&[0.2, 0.2 + gap, 0.1])});
        lists += &format!("{list}\n");
    }
    std::fs::write(dir.join("pairs.jsonl"), pairs).unwrap();
    std::fs::write(dir.join("lists.jsonl"), lists).unwrap();
}

/// The settings of docs/methods.md, and a dry run on a model of the family's shape and little width.
fn assert_is_taken(name: &str, family: &str, model: &Path, model_family: &str) {
    assert_has_the_settings_of_the_methods_page(name, family);
    let dir = tempfile::tempdir().unwrap();
    write_data(dir.path());
    let recipe = recipe(name, family);
    let data = Path::new(text(&recipe, "data", "path").unwrap()).file_name().unwrap();
    let mut sets = vec![
        ("model.path", model.display().to_string()),
        ("data.path", dir.path().join(data).display().to_string()),
        // A hundredth of eight prompts is none.
        ("validate.fraction", "0.25".to_string()),
        ("train.threads", "1".to_string()),
    ];
    if recipe["model"].get("unet").is_some() {
        sets.push(("model.unet", model.join("unet").display().to_string()));
    }
    let plan = planned(name, family, dir.path(), &sets);
    assert_eq!(plan["family"], model_family, "{name}");
    assert_eq!(plan["pairs_per_step"].as_f64(), Some(items_a_step(&recipe)), "{name}");
    assert_eq!(plan["steps"].as_f64(), number(&recipe, "train", "steps"), "{name}");
    let full = recipe.get("lora").is_none();
    assert_eq!(plan["trained_parameters"] == plan["parameters"], full, "{name}: {plan}");
}

fn assert_sd15_takes(name: &str) {
    assert_is_taken(name, "sd15", &support::model(), "Stable Diffusion 1");
}

fn assert_sdxl_takes(name: &str) {
    assert_fits_one_card(name);
    assert_is_taken(name, "sdxl", &golden("families/sdxl"), "Stable Diffusion XL");
}

one_test_per_recipe!(sd15_recipe_has_the_published_settings_and_is_taken: super::assert_sd15_takes);
one_test_per_recipe!(sdxl_recipe_has_the_published_settings_and_is_taken: super::assert_sdxl_takes);
