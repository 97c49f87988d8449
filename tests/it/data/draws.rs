//! The named random streams against `tests/golden/data_draws.json`, made by Python and torch.

use diffpref::data::draws::{Draws, held_out, key};
use diffpref::data::timesteps::TimestepLaw;
use pipelines::LevelRange;
use serde_json::Value;
use std::fmt::Display;
use tch::Tensor;

fn golden() -> Value {
    serde_json::from_str(include_str!("../../golden/data_draws.json")).unwrap()
}

fn draws() -> Draws {
    Draws { seed: 42, draws_per_pair: 0, range: LevelRange::Steps(1000) }
}

/// float32 normal draws differ by up to 2e-6 between processors with and without AVX2.
fn assert_close(ours: &Tensor, golden: &Value) {
    let ours = Vec::<f32>::try_from(ours.flatten(0, -1)).unwrap();
    let theirs: Vec<f64> = serde_json::from_value(golden.clone()).unwrap();
    assert_eq!(ours.len(), theirs.len());
    for (a, b) in ours.iter().zip(&theirs) {
        assert!((f64::from(*a) - b).abs() <= 2e-6, "{a} against {b}");
    }
}

#[test]
fn keys_are_those_of_python() {
    for entry in golden()["keys"].as_array().unwrap() {
        let ids: Vec<String> = serde_json::from_value(entry["ids"].clone()).unwrap();
        let ids: Vec<&dyn Display> = ids.iter().map(|i| i as &dyn Display).collect();
        let ours = key(entry["seed"].as_u64().unwrap(), entry["stream"].as_str().unwrap(), &ids);
        assert_eq!(ours.to_string(), entry["key"].as_str().unwrap());
    }
}

#[test]
fn orders_and_splits_are_those_of_python() {
    let golden = golden();
    for entry in golden["order"].as_array().unwrap() {
        let expected: Vec<i64> = serde_json::from_value(entry["value"].clone()).unwrap();
        let n = entry["n"].as_u64().unwrap() as usize;
        assert_eq!(draws().order(entry["epoch"].as_u64().unwrap(), n).unwrap(), expected);
    }
    for entry in golden["splits"].as_array().unwrap() {
        let ours = held_out(entry["prompt"].as_str().unwrap(), entry["fraction"].as_f64().unwrap());
        assert_eq!(ours, entry["held_out"].as_bool().unwrap(), "{entry}");
    }
}

#[test]
fn the_draws_of_an_item_are_those_of_torch() {
    let draws = draws();
    for entry in golden()["items"].as_array().unwrap() {
        let (d, id) = (entry["d"].as_u64().unwrap(), entry["id"].as_str().unwrap());
        assert_eq!(draws.level(d, id, &TimestepLaw::all(draws.range)).unwrap(), entry["timestep"].as_f64().unwrap());
        assert_eq!(draws.dropout(d, id, 0.2), entry["dropout"].as_bool().unwrap());
        assert_close(&draws.noise(d, id, &[4, 3, 5]), &entry["noise"]);
        assert_close(&draws.noise(d, id, &[1, 2, 2]), &entry["small_noise"]);
        for (k, golden) in entry["sides"].as_array().unwrap().iter().enumerate() {
            assert_close(&draws.image_noise(d, k, id, &[1, 2, 2]), &golden["noise"]);
            assert_close(&draws.inversion(d, k, id, 3, &[1, 2, 2]), &golden["inversion"]);
            assert_close(&draws.vae(d, k, id, &[4, 3, 5]), &golden["vae"]);
            assert_eq!(draws.crop(d, k, id, 4).unwrap(), golden["crop"].as_i64().unwrap());
            for (p, flip) in [0.1, 0.5, 0.9].into_iter().zip(golden["flip"].as_array().unwrap()) {
                assert_eq!(draws.flip(d, k, id, p), flip.as_bool().unwrap());
            }
        }
    }
}

#[test]
fn timesteps_of_every_law_are_those_of_python() {
    let (draws, golden) = (draws(), golden());
    let laws = [
        ("narrow", TimestepLaw::Uniform { min: 100.0, max: 500.0 }),
        ("list", TimestepLaw::List(vec![249.0, 499.0, 749.0, 999.0])),
        ("discounted", TimestepLaw::Discounted { gamma: 0.9, n_bins: 50, min: 0.0, max: 999.0 }),
        ("discounted_narrow", TimestepLaw::Discounted { gamma: 0.8, n_bins: 10, min: 20.0, max: 979.0 }),
    ];
    for entry in golden["items"].as_array().unwrap() {
        let (d, id) = (entry["d"].as_u64().unwrap(), entry["id"].as_str().unwrap());
        for (name, law) in &laws {
            assert_eq!(draws.level(d, id, law).unwrap(), entry["laws"][name].as_f64().unwrap(), "{name}");
        }
    }
}

#[test]
fn slots_and_orders_of_classes_are_those_of_torch() {
    let (draws, golden) = (draws(), golden());
    for entry in golden["slots"].as_array().unwrap() {
        let share = entry["share"].as_f64().unwrap();
        let ours: Vec<bool> = (0..40).map(|p| draws.slot(p, share)).collect();
        assert_eq!(serde_json::to_value(ours).unwrap(), entry["value"]);
    }
    for entry in golden["class_order"].as_array().unwrap() {
        let (class, n) = (entry["class"].as_str().unwrap(), entry["n"].as_u64().unwrap() as usize);
        let ours = draws.class_order(class, entry["pass"].as_u64().unwrap(), n).unwrap();
        assert_eq!(serde_json::to_value(ours).unwrap(), entry["value"]);
    }
}

#[test]
fn validation_noise_does_not_depend_on_the_seed_of_the_run() {
    for entry in golden()["val_noise"].as_array().unwrap() {
        let (j, id) = (entry["j"].as_u64().unwrap(), entry["id"].as_str().unwrap());
        assert_close(&draws().val_noise(j, id, &[4, 3, 5]), &entry["value"]);
    }
}

#[test]
fn lora_starts_are_those_of_torch() {
    let golden = golden();
    let ours = draws().lora(golden["lora"]["name"].as_str().unwrap(), 4, 8);
    assert_eq!(ours.size(), [4, 8]);
    assert_close(&ours, &golden["lora"]["value"]);
}
