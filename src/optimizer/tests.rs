//! Adafactor against transformers (tests/golden/make_adafactor.py), and common properties of all rules.

use super::{Optimizer, state_bytes};
use crate::settings::{OptimConfig, RuleConfig};
use pipelines::weights::TensorFile;
use std::collections::HashMap;
use std::path::Path;
use tch::{Device, Kind, Tensor};

const NAMES: [&str; 4] = ["bias", "convolution", "matrix", "pointwise"];

fn config(rule: RuleConfig) -> OptimConfig {
    OptimConfig {
        lr: 3e-3,
        lr_scale: crate::settings::LrScale::None,
        rule,
        weight_decay: 1e-2,
        max_grad_norm: 1e9,
        schedule: crate::settings::Schedule::Constant,
        warmup_steps: 0,
    }
}

fn adamw() -> OptimConfig {
    config(RuleConfig::Adamw { betas: (0.9, 0.999), eps: 1e-8 })
}

/// The golden tensors of a case by what follows `CASE.`.
struct Golden {
    file: TensorFile,
    case: &'static str,
}

impl Golden {
    fn of(case: &'static str) -> Self {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/adafactor.safetensors");
        Self { file: TensorFile::open(&path).unwrap(), case }
    }

    fn tensor(&self, name: &str) -> Tensor {
        self.file.tensor(&format!("{}.{name}", self.case)).unwrap().copy()
    }

    fn trainable(&self) -> Vec<(String, Tensor)> {
        NAMES.map(|name| (name.to_string(), self.tensor(&format!("{name}.start")))).into()
    }

    /// Gradients of step `s`.
    fn grads(&self, s: usize) -> Vec<Tensor> {
        NAMES.map(|name| self.tensor(&format!("{name}.grad.{s}"))).into()
    }
}

/// max |a - b| / max |b|
fn deviation(a: &Tensor, b: &Tensor) -> f64 {
    assert_eq!((a.kind(), a.size()), (b.kind(), b.size()));
    ((a - b).abs().max() / b.abs().max()).double_value(&[])
}

fn takes_the_steps_of_transformers(case: &'static str, tolerance: f64) {
    let golden = Golden::of(case);
    let trainable = golden.trainable();
    let mut optimizer = Optimizer::new(&trainable, &config(RuleConfig::Adafactor));
    let mut worst = 0.0_f64;
    for s in 1..=4 {
        optimizer.step(&golden.grads(s), 1.0, 3e-3 / s as f64).unwrap();
        for (name, param) in &trainable {
            let off = deviation(param, &golden.tensor(&format!("{name}.after.{s}")));
            assert!(off < tolerance, "{name} after step {s}: {off:.1e}");
            worst = worst.max(off);
        }
    }
    for (name, tensor) in optimizer.state() {
        if name.ends_with(".step") {
            assert_eq!(tensor.int64_value(&[]), 4);
            continue;
        }
        let off = deviation(&tensor, &golden.tensor(&name));
        assert!(off < tolerance, "{name}: {off:.1e}");
        worst = worst.max(off);
    }
    println!("{case}: differs by at most {worst:.1e}");
}

#[test]
fn adafactor_takes_the_steps_of_transformers_in_float32() {
    takes_the_steps_of_transformers("float32", 1e-6); // products in another order: a few units of the last digit
}

#[test]
fn adafactor_takes_the_steps_of_transformers_in_float64() {
    takes_the_steps_of_transformers("float64", 1e-14);
}

#[test]
fn a_tensor_without_gradient_only_decays_under_adafactor() {
    let trainable = vec![("w".to_string(), Tensor::ones([3, 2], (Kind::Float, Device::Cpu)))];
    let mut optimizer = Optimizer::new(&trainable, &config(RuleConfig::Adafactor));
    let grads = optimizer.accumulated();
    optimizer.step(&grads, 0.0, 0.5).unwrap();
    let decayed = trainable[0].1.full_like(1.0 - 0.5 * 1e-2);
    assert!(deviation(&trainable[0].1, &decayed) < 1e-7);
}

#[test]
fn clipping_scales_what_a_rule_is_given() {
    for optim in [config(RuleConfig::Adafactor), adamw()] {
        let after = |grad: f64, max_grad_norm: f64| {
            let trainable = vec![("w".to_string(), Tensor::zeros([2], (Kind::Double, Device::Cpu)))];
            let mut optimizer = Optimizer::new(&trainable, &OptimConfig { max_grad_norm, ..optim.clone() });
            let grads = [Tensor::from_slice(&[grad * 3.0, grad * 4.0])];
            let norm = optimizer.grad_norm(&grads).unwrap();
            optimizer.step(&grads, norm, 0.1).unwrap();
            optimizer.state().remove(0).1
        };
        assert!(deviation(&after(1.0, 0.5), &after(0.1, 1e9)) < 1e-5, "{:?}", optim.rule);
        assert!(deviation(&after(1.0, 1e9), &after(0.1, 1e9)) > 1.0, "{:?}", optim.rule);
    }
}

#[test]
fn a_rule_that_takes_over_a_state_goes_on_as_the_one_that_made_it() {
    let golden = Golden::of("float32");
    for optim in [config(RuleConfig::Adafactor), adamw()] {
        let (own, other) = (golden.trainable(), golden.trainable());
        let mut first = Optimizer::new(&own, &optim);
        (1..3).for_each(|s| first.step(&golden.grads(s), 1.0, 1e-3).unwrap());
        let stored: HashMap<String, Tensor> = first.state().into_iter().map(|(n, t)| (n, t.copy())).collect();
        for ((_, from), (_, to)) in own.iter().zip(&other) {
            to.shallow_clone().copy_(from);
        }
        let mut second = Optimizer::new(&other, &optim);
        second.load(&stored).unwrap();
        for optimizer in [&mut first, &mut second] {
            (3..5).for_each(|s| optimizer.step(&golden.grads(s), 1.0, 1e-3).unwrap());
        }
        assert!(own.iter().zip(&other).all(|((_, a), (_, b))| a.equal(b)), "{:?}", optim.rule);
    }
}

#[test]
fn a_state_that_lacks_a_part_or_has_another_shape_is_refused_by_name() {
    let golden = Golden::of("float32");
    let trainable = golden.trainable();
    let mut adafactor = Optimizer::new(&trainable, &config(RuleConfig::Adafactor));
    let of_adamw: HashMap<String, Tensor> = Optimizer::new(&trainable, &adamw()).state().into_iter().collect();
    let error = adafactor.load(&of_adamw).unwrap_err().to_string();
    assert_eq!(error, "the checkpoint lacks convolution.exp_avg_sq_row: expected it beside the others");
    let mut own: HashMap<String, Tensor> = adafactor.state().into_iter().collect();
    own.insert("matrix.exp_avg_sq_col".into(), Tensor::zeros([5], (Kind::Float, Device::Cpu)));
    let error = adafactor.load(&own).unwrap_err().to_string();
    assert_eq!(error, "the checkpoint's matrix.exp_avg_sq_col has shape [5], expected [7]");
}

#[test]
fn bytes_of_the_state_are_counted_as_they_are_kept() {
    for case in ["float32", "float64"] {
        let trainable = Golden::of(case).trainable();
        for optim in [config(RuleConfig::Adafactor), adamw()] {
            let kept = Optimizer::new(&trainable, &optim).state().into_iter().filter(|(n, _)| !n.ends_with(".step"));
            let bytes: usize = kept.map(|(_, t)| t.numel() * t.kind().elt_size_in_bytes()).sum();
            assert_eq!(state_bytes(&trainable, &optim), bytes as u64, "{case}, {:?}", optim.rule);
        }
    }
}
