//! Merges that make a LoRA.

use super::{assert_same, file, furthest, golden, merge, named, norm, unet, write_unet};
use pipelines::lora::{Lora, LoraModule, LoraTargets, Network};
use pipelines::models::UNetConfig;
use pipelines::weights::TensorFile;
use serde_json::Value;
use std::path::Path;
use tch::{Kind, Tensor};

/// A LoRA's matrices are float32: products are off by a few roundings.
const RELATIVE: f64 = 1e-6;

fn read(path: &Path) -> Lora {
    Lora::read(path, &LoraTargets::new(&UNetConfig::read(&golden("merge/base")).unwrap(), &[])).unwrap()
}

fn product(module: &LoraModule) -> Tensor {
    let shape = [&module.b.size()[..1], &module.a.size()[1..]].concat();
    module.product(&shape, Kind::Double).unwrap()
}

fn json(arguments: &[&str], out: &Path) -> Value {
    let ran = merge(&[arguments, &["--json"]].concat(), out).assert().success();
    serde_json::from_slice(&ran.get_output().stdout).unwrap()
}

fn extract(rank: &str, out: &Path, more: &[&str]) -> Value {
    let (base, model) = (named("merge/base"), named("merge/a"));
    json(&[&["extract", "--base", &base, "--model", &model, "--rank", rank], more].concat(), out)
}

#[test]
fn the_error_of_a_rank_is_the_tail_of_singular_values_and_falls_with_the_rank() {
    let dir = tempfile::tempdir().unwrap();
    let text = std::fs::read_to_string(golden("merge/expected.json")).unwrap();
    let expected: Value = serde_json::from_str(&text).unwrap();
    let mut before = f64::INFINITY;
    for rank in [1, 2, 4, 8] {
        let out = dir.path().join(format!("{rank}.safetensors"));
        let found = extract(&rank.to_string(), &out, &[]);
        let modules = found["lora"]["modules"].as_object().unwrap();
        assert_eq!(modules.len(), expected.as_object().unwrap().len());
        for (module, layer) in expected.as_object().unwrap() {
            let values: Vec<f64> = layer["values"].as_array().unwrap().iter().map(|v| v.as_f64().unwrap()).collect();
            let square = |values: &[f64]| values.iter().map(|v| v * v).sum::<f64>();
            let tail = (square(&values[rank.min(values.len())..]) / square(&values)).sqrt();
            let error = modules[&format!("unet.{module}")].as_f64().unwrap();
            assert!((error - tail).abs() < RELATIVE, "rank {rank} {module}: {error} {tail}");
            if rank == 2 {
                assert!((error - layer["rank2"].as_f64().unwrap()).abs() < RELATIVE, "{module}");
            }
        }
        let mean = found["lora"]["mean"].as_f64().unwrap();
        assert!(mean < before);
        before = mean;
    }
}

#[test]
fn extraction_at_full_rank_restores_what_a_lora_can_hold_of_a_checkpoint() {
    let dir = tempfile::tempdir().unwrap();
    let (lora, back) = (dir.path().join("full.safetensors"), dir.path().join("back"));
    // The layer with the most room is [16, 16].
    let found = extract("16", &lora, &[]);
    merge(&["lora", "--base", &named("merge/base"), "--lora", lora.to_str().unwrap()], &back).assert().success();
    let (base, a, back) = (unet(&golden("merge/base")), unet(&golden("merge/a")), unet(&back));
    let (mut outside, mut whole, mut left) = (0.0, 0.0, Vec::new());
    for (name, tensor) in &a {
        let change = norm(&(tensor - &base[name]));
        whole += change * change;
        if tensor.dim() > 1 {
            assert!(furthest(&back[name], tensor) < 1e-6, "{name}: {}", furthest(&back[name], tensor));
        } else {
            assert!(back[name].equal(&base[name]), "{name}");
            outside += change * change;
            left.push(Value::from(format!("unet.{name}")));
        }
    }
    let share = found["lora"]["left_out_share"].as_f64().unwrap();
    assert!((share - f64::sqrt(outside / whole)).abs() < 1e-6, "{share}");
    assert_eq!(found["lora"]["left_out"], Value::from(left));
}

#[test]
fn attention_layers_alone_are_taken_where_they_are_asked_for() {
    let dir = tempfile::tempdir().unwrap();
    let out = dir.path().join("lora.safetensors");
    let found = extract("2", &out, &["--layers", "attention"]);
    let modules = found["lora"]["modules"].as_object().unwrap();
    assert!(modules.len() > 20 && modules.keys().all(|name| name.contains(".attentions.")));
    let left = found["lora"]["left_out"].as_array().unwrap();
    assert!(left.contains(&"unet.conv_in.weight".into()) && left.contains(&"unet.conv_in.bias".into()));
}

#[test]
fn loras_are_joined_exactly_by_their_ranks_with_negative_weights_too() {
    let dir = tempfile::tempdir().unwrap();
    let (first, second, out) =
        (golden("merge/lora.safetensors"), dir.path().join("second.safetensors"), dir.path().join("both.safetensors"));
    extract("2", &second, &[]);
    let (base, scaled) =
        (named("merge/base"), [format!("{}:0.7", first.display()), format!("{}:-0.3", second.display())]);
    let join = ["join", "--base", &base, "--lora", &scaled[0], "--lora", &scaled[1]];
    let found = json(&join, &out);
    assert!(found["lora"]["mean"].as_f64().unwrap() < 1e-12);
    let (one, two, both) = (read(&first), read(&second), read(&out));
    let unet = |lora: &'_ Lora, path: &str| {
        lora.network(Network::Unet).unwrap().modules.get(path).map(|m| (product(m), m.rank()))
    };
    for path in both.network(Network::Unet).unwrap().modules.keys() {
        let (sum, rank) = unet(&both, path).unwrap();
        let (second, second_rank) = unet(&two, path).unwrap();
        let (wanted, wanted_rank) = match unet(&one, path) {
            Some((first, first_rank)) => (first * 0.7 - second * 0.3, first_rank + second_rank),
            None => (second * -0.3, second_rank),
        };
        assert!(furthest(&sum, &wanted) < RELATIVE && rank == wanted_rank, "{path}");
    }
    // Merged into the base it is the two merged one after the other.
    let (at_once, in_turn) = (dir.path().join("at-once"), dir.path().join("in-turn"));
    merge(&["lora", "--base", &base, "--lora", out.to_str().unwrap()], &at_once).assert().success();
    merge(&["lora", "--base", &base, "--lora", &scaled[0], "--lora", &scaled[1]], &in_turn).assert().success();
    let (at_once, in_turn) = (super::unet(&at_once), super::unet(&in_turn));
    assert!(at_once.iter().all(|(name, tensor)| furthest(tensor, &in_turn[name]) < 1e-6));
}

#[test]
fn joined_loras_cut_to_a_rank_are_the_nearest_of_that_rank() {
    let dir = tempfile::tempdir().unwrap();
    let (exact, cut) = (dir.path().join("exact.safetensors"), dir.path().join("cut.safetensors"));
    let (base, lora) = (named("merge/base"), named("merge/lora.safetensors"));
    json(&["join", "--base", &base, "--lora", &lora], &exact);
    let found = json(&["join", "--base", &base, "--lora", &lora, "--rank", "2"], &cut);
    let (exact, cut) = (read(&exact), read(&cut));
    for (path, module) in &exact.network(Network::Unet).unwrap().modules {
        let (whole, near) = (product(module), &cut.network(Network::Unet).unwrap().modules[path]);
        let (_, values, _) = whole.flatten(1, -1).svd(true, false);
        let tail = norm(&values.narrow(0, 2, values.size()[0] - 2)) / norm(&values);
        let error = norm(&(&whole - product(near))) / norm(&whole);
        let said = found["lora"]["modules"][&format!("unet.{path}")].as_f64().unwrap();
        assert_eq!(near.rank(), 2);
        assert!((error - tail).abs() < RELATIVE && (said - tail).abs() < RELATIVE, "{path}: {error} {said} {tail}");
    }
}

#[test]
fn the_negative_model_as_one_lora_is_the_negative_model() {
    let dir = tempfile::tempdir().unwrap();
    let base = named("merge/base");
    let (lora, negative) = (named("merge/lora.safetensors"), dir.path().join("second.safetensors"));
    extract("2", &negative, &[]);
    let sides =
        ["npo", "--base", &base, "--positive", &lora, "--negative", negative.to_str().unwrap(), "--alpha", "0.5"];
    let (model, worn) = (dir.path().join("model"), dir.path().join("worn"));
    merge(&sides, &model).assert().success();
    let one = dir.path().join("negative.safetensors");
    let found = json(&[&sides[..], &["--as-lora"]].concat(), &one);
    assert!(found["lora"]["mean"].as_f64().unwrap() < 1e-12);
    merge(&["lora", "--base", &base, "--lora", one.to_str().unwrap()], &worn).assert().success();
    let (model, worn) = (unet(&model), unet(&worn));
    assert!(model.iter().all(|(name, tensor)| furthest(tensor, &worn[name]) < 1e-6));
    // Whole weights on one side: the nearest of a rank.
    let mixed =
        ["npo", "--base", &base, "--positive", &lora, "--negative", &named("merge/a"), "--as-lora", "--rank", "16"];
    let (mixed_lora, back) = (dir.path().join("mixed.safetensors"), dir.path().join("mixed"));
    merge(&mixed, &mixed_lora).assert().success();
    merge(&mixed[..7], &back).assert().success();
    let (back, made, base) = (unet(&back), read(&mixed_lora), unet(&golden("merge/base")));
    for (path, module) in &made.network(Network::Unet).unwrap().modules {
        let name = format!("{path}.weight");
        let wanted = back[&name].to_kind(Kind::Double) - base[&name].to_kind(Kind::Double);
        assert!(furthest(&product(module), &wanted) < 1e-6, "{path}");
    }
}

#[test]
fn a_soup_of_loras_is_the_mean_of_what_they_add() {
    let dir = tempfile::tempdir().unwrap();
    // Of the usual shape of Stable Diffusion 1: no model is needed to name its layers.
    let module = "unet.down_blocks.0.attentions.0.transformer_blocks.0.attn2.to_k";
    let mut inputs = Vec::new();
    for (i, rank) in [2_i64, 3].into_iter().enumerate() {
        let wave = |shape: [i64; 2]| {
            let n = shape[0] * shape[1];
            (Tensor::arange(n, (Kind::Float, tch::Device::Cpu)) * (0.3 + i as f64)).sin().reshape(shape)
        };
        let path = dir.path().join(format!("{i}.safetensors"));
        let tensors = [
            (format!("{module}.lora_A.weight"), wave([rank, 768])),
            (format!("{module}.lora_B.weight"), wave([320, rank])),
        ];
        pipelines::weights::write_safetensors(&path, &tensors, &[]).unwrap();
        let (a, b) = (tensors[0].1.to_kind(Kind::Double), tensors[1].1.to_kind(Kind::Double));
        inputs.push((path.display().to_string(), b.matmul(&a)));
    }
    let out = dir.path().join("soup.safetensors");
    let models = ["soup", "--model", &inputs[0].0, "--model", &inputs[1].0, "--format", "lora-kohya"];
    merge(&models, &out).assert().success();
    let made = file(&out);
    let kohya = "lora_unet_down_blocks_0_attentions_0_transformer_blocks_0_attn2_to_k";
    let part = |name: &str| made[&format!("{kohya}.{name}")].to_kind(Kind::Double);
    let product = part("lora_up.weight").matmul(&part("lora_down.weight"));
    let mean = (&inputs[0].1 + &inputs[1].1) * 0.5;
    assert!(furthest(&product, &mean) < RELATIVE * 10.0);
    assert_eq!((part("alpha").double_value(&[]), part("lora_down.weight").size()[0]), (5.0, 5));
    let header = TensorFile::open(&out).unwrap().metadata().clone();
    assert_eq!((header["ss_base_model_version"].as_str(), header["ss_output_name"].as_str()), ("sd_v1", "soup"));
    let record: Value = serde_json::from_str(&header["diffpref.merge"]).unwrap();
    assert_eq!((&record["operation"], &record["inputs"][0]["weight"]), (&"soup".into(), &0.5.into()));
}

#[test]
fn a_difference_of_lower_rank_is_held_without_loss() {
    let dir = tempfile::tempdir().unwrap();
    let (merged, lora) = (dir.path().join("merged"), dir.path().join("again.safetensors"));
    let (base, first) = (named("merge/base"), named("merge/lora.safetensors"));
    merge(&["lora", "--base", &base, "--lora", &first], &merged).assert().success();
    let model = merged.display().to_string();
    let found = json(&["extract", "--base", &base, "--model", &model, "--rank", "3"], &lora);
    let (first, again) = (read(Path::new(&first)), read(&lora));
    // Layers that the LoRA does not touch do not differ and are left away.
    let modules = |lora: &'_ Lora| lora.network(Network::Unet).unwrap().modules.keys().cloned().collect::<Vec<_>>();
    assert_eq!(modules(&first), modules(&again));
    for (path, module) in &first.network(Network::Unet).unwrap().modules {
        let near = &again.network(Network::Unet).unwrap().modules[path];
        assert!(furthest(&product(module), &product(near)) < 1e-6, "{path}");
    }
    assert_eq!(found["lora"]["left_out"], Value::from(Vec::<String>::new()));
}

#[test]
fn a_difference_that_is_nothing_is_no_lora() {
    let dir = tempfile::tempdir().unwrap();
    let (copy, out) = (dir.path().join("copy"), dir.path().join("out.safetensors"));
    write_unet(&copy, &unet(&golden("merge/base")));
    assert_same(&unet(&copy), &unet(&golden("merge/base")));
    let (base, copy) = (named("merge/base"), copy.display().to_string());
    super::refused(
        &["extract", "--base", &base, "--model", &copy, "--rank", "2"],
        &out,
        1,
        &["no layer differs", "trained"],
    );
    let lora = named("merge/lora.safetensors");
    let opposite = format!("{lora}:-1");
    let join = ["join", "--base", &base, "--lora", &lora, "--lora", &opposite, "--rank", "4"];
    let cancelled = merge(&join, &out).assert();
    // What cancels is nothing up to rounding; whichever it is, no infinity or NaN is written.
    if out.exists() {
        assert!(file(&out).values().all(|tensor| tensor.isfinite().all().int64_value(&[]) == 1));
        assert!(
            read(&out).networks().flat_map(|(_, w)| w.modules.values()).all(|module| norm(&product(module)) < 1e-6)
        );
    } else {
        cancelled.failure();
    }
}
