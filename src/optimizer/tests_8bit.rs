//! AdamW with moments in 8 bits, against numpy (tests/golden/make_adamw8bit.py).

use super::adamw8bit::map;
use super::{Optimizer, state_bytes};
use crate::settings::{LrScale, OptimConfig, RuleConfig, Schedule};
use diffpref_native::Generator;
use pipelines::weights::TensorFile;
use std::collections::HashMap;
use std::path::Path;
use tch::{Device, Kind, Tensor};

const NAMES: [&str; 3] = ["bias", "large", "whole"];

fn config(weight_decay: f64) -> OptimConfig {
    OptimConfig {
        lr: 3e-3,
        lr_scale: LrScale::None,
        rule: RuleConfig::Adamw8bit { betas: (0.9, 0.999), eps: 1e-8 },
        weight_decay,
        max_grad_norm: 1e9,
        schedule: Schedule::Constant,
        warmup_steps: 0,
    }
}

fn golden() -> TensorFile {
    TensorFile::open(&Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/adamw8bit.safetensors")).unwrap()
}

fn all(file: &TensorFile, ending: &str, kind: Kind) -> Vec<(String, Tensor)> {
    let of = |name: &str| file.tensor(&format!("{name}.{ending}")).unwrap().to_kind(kind);
    NAMES.map(|name| (name.to_string(), of(name))).into()
}

fn grads(file: &TensorFile, s: usize, kind: Kind) -> Vec<Tensor> {
    all(file, &format!("grad.{s}"), kind).into_iter().map(|(_, grad)| grad).collect()
}

/// max |a - b| / max |b|
fn deviation(a: &Tensor, b: &Tensor) -> f64 {
    ((a.to_kind(Kind::Double) - b).abs().max() / b.abs().max()).double_value(&[])
}

#[test]
fn maps_are_those_of_bitsandbytes() {
    let file = golden();
    for (name, signed) in [("map.signed", true), ("map.unsigned", false)] {
        let expected = Vec::<f64>::try_from(file.tensor(name).unwrap()).unwrap();
        let found = map(signed);
        assert_eq!(found.len(), 256);
        assert!(found.iter().zip(&expected).all(|(a, b)| (a - b).abs() <= 1e-15), "{name}");
    }
}

#[test]
fn three_steps_and_the_state_behind_them_equal_numpy() {
    let file = golden();
    for (kind, tolerance) in [(Kind::Double, 1e-12), (Kind::Float, 1e-5)] {
        let trainable = all(&file, "start", kind);
        let mut optimizer = Optimizer::new(&trainable, &config(1e-2));
        (1..=3).for_each(|s| optimizer.step(&grads(&file, s, kind), 1.0, 3e-3 / s as f64).unwrap());
        for ((name, param), (_, expected)) in trainable.iter().zip(all(&file, "after", Kind::Double)) {
            let off = deviation(param, &expected);
            assert!(off < tolerance, "{kind:?} {name}: {off:.1e}");
        }
        for (name, tensor) in optimizer.state().into_iter().filter(|(name, _)| !name.ends_with(".step")) {
            let expected = file.tensor(&name).unwrap();
            if tensor.kind() == Kind::Uint8 {
                // In float32 a value in the middle of two entries may go to either.
                let other = tensor.ne_tensor(&expected).sum(Kind::Int64).int64_value(&[]);
                let most = if kind == Kind::Double { 0 } else { tensor.numel() as i64 / 500 };
                assert!(other <= most, "{kind:?} {name}: {other} of {}", tensor.numel());
            } else {
                assert!(deviation(&tensor, &expected.to_kind(Kind::Double)) < 1e-6, "{kind:?} {name}");
            }
        }
    }
}

#[test]
fn a_state_that_is_taken_over_continues_to_the_same_bytes() {
    let file = golden();
    let (own, other) = (all(&file, "start", Kind::Float), all(&file, "start", Kind::Float));
    let mut first = Optimizer::new(&own, &config(1e-2));
    (1..3).for_each(|s| first.step(&grads(&file, s, Kind::Float), 1.0, 1e-3).unwrap());
    let stored: HashMap<String, Tensor> = first.state().into_iter().map(|(n, t)| (n, t.copy())).collect();
    own.iter().zip(&other).for_each(|((_, from), (_, to))| to.shallow_clone().copy_(from));
    let mut second = Optimizer::new(&other, &config(1e-2));
    second.load(&stored).unwrap();
    for optimizer in [&mut first, &mut second] {
        (3..4).for_each(|s| optimizer.step(&grads(&file, s, Kind::Float), 1.0, 1e-3).unwrap());
    }
    assert!(own.iter().zip(&other).all(|((_, a), (_, b))| a.equal(b)));
}

#[test]
fn bytes_of_the_state_are_a_quarter_of_those_of_adamw_and_counted_as_kept() {
    let trainable = all(&golden(), "start", Kind::Float);
    let kept = Optimizer::new(&trainable, &config(0.0)).state().into_iter().filter(|(n, _)| !n.ends_with(".step"));
    let bytes: usize = kept.map(|(_, t)| t.numel() * t.kind().elt_size_in_bytes()).sum();
    assert_eq!(state_bytes(&trainable, &config(0.0)), bytes as u64);
    let large = vec![("w".to_string(), Tensor::zeros([1024, 1024], (Kind::Float, Device::Cpu)))];
    assert_eq!(state_bytes(&large, &config(0.0)), (2 << 20) + 2 * 4 * 4096);
}

/// A gradient that ends leaves the first moment: with a second moment of 0 the next step would be that over eps.
#[test]
fn a_second_moment_above_zero_stays_above_zero() {
    let weights = Tensor::zeros([LARGE], (Kind::Float, Device::Cpu));
    let trainable = vec![("w".to_string(), weights)];
    let mut optimizer = Optimizer::new(&trainable, &config(0.0));
    // Within a block: one large gradient, all others of a millionth of it.
    let grad = Tensor::full([LARGE], 1e-6, (Kind::Float, Device::Cpu));
    let _ = grad.get(0).fill_(1.0);
    optimizer.step(&[grad.copy()], 1.0, 1e-3).unwrap();
    let none = grad.zeros_like();
    for _ in 0..5 {
        optimizer.step(&[none.copy()], 1.0, 1e-3).unwrap();
    }
    let largest = trainable[0].1.abs().max().double_value(&[]);
    assert!(largest < 6.0 * 1e-3, "each step moves a weight by about the rate at most: {largest}");
}

const LARGE: i64 = 8192;

/// Quadratic bowls of many widths: the loss after 200 steps is within a tenth of that with float32 moments.
#[test]
fn a_problem_with_noise_is_solved_nearly_as_well_as_with_float32_moments() {
    let loss_after = |rule: RuleConfig, seed: u64| {
        let mut generator = Generator::cpu(seed);
        let width = Tensor::logspace(-2.0, 1.0, LARGE, 10.0, (Kind::Float, Device::Cpu));
        let trainable = vec![("w".to_string(), generator.randn(&[LARGE]))];
        let mut optimizer = Optimizer::new(&trainable, &OptimConfig { rule, ..config(0.0) });
        let loss = || (trainable[0].1.square() * &width).sum(Kind::Double).double_value(&[]);
        let start = loss();
        for _ in 0..200 {
            let noise = generator.randn(&[LARGE]) * 0.3;
            let grad = &trainable[0].1 * &width * 2.0 + noise * &width;
            optimizer.step(&[grad], 1.0, 5e-3).unwrap();
        }
        loss() / start
    };
    let plain: Vec<f64> =
        (0..3).map(|seed| loss_after(RuleConfig::Adamw { betas: (0.9, 0.999), eps: 1e-8 }, seed)).collect();
    let rounded: Vec<f64> = (0..3).map(|seed| loss_after(config(0.0).rule, seed)).collect();
    println!("AdamW {plain:?}, 8 bits {rounded:?}");
    let mean = |values: &[f64]| values.iter().sum::<f64>() / values.len() as f64;
    // A second moment that shrinks by less than half the distance of two entries stays where it is: steps are smaller.
    let ratio = mean(&rounded) / mean(&plain);
    assert!((0.9..1.1).contains(&ratio), "{plain:?} {rounded:?}");
}
