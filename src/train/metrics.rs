//! What a step says of itself: one JSON object a line in metrics.jsonl. Names: docs/train.md.

use crate::objectives::{Derivative, PairErrors};
use anyhow::{Context, Result};
use serde_json::{Map, Value, json};
use tch::{Kind, Tensor};

/// One pair's numbers. Errors are in the space of metrics (epsilon, unless `error = "native"`).
#[derive(Debug, Clone)]
pub struct PairRecord {
    pub id: String,
    pub timestep: i64,
    pub loss: f64,
    pub u: Option<f64>,
    pub theta_w: f64,
    pub theta_l: Option<f64>,
    pub ref_w: Option<f64>,
    pub ref_l: Option<f64>,
}

impl PairRecord {
    /// The records of a micro-batch of `[n]` tensors.
    pub fn of_batch(
        ids: &[String],
        timesteps: &Tensor,
        errors: &PairErrors,
        derivative: &Derivative,
    ) -> Result<Vec<Self>> {
        let scaled = |t: &Tensor| numbers(&(t * &errors.epsilon_factor));
        let optional = |t: &Option<Tensor>| t.as_ref().map(&scaled).transpose();
        let losses = numbers(&derivative.losses)?;
        let u = derivative.logits.as_ref().map(numbers).transpose()?;
        let theta_w = scaled(&errors.theta_w)?;
        let (theta_l, ref_w, ref_l) = (optional(&errors.theta_l)?, optional(&errors.ref_w)?, optional(&errors.ref_l)?);
        let timesteps = numbers(timesteps)?;
        let at = |list: &Option<Vec<f64>>, i: usize| list.as_ref().map(|l| l[i]);
        Ok(ids
            .iter()
            .enumerate()
            .map(|(i, id)| Self {
                id: id.clone(),
                timestep: timesteps[i] as i64,
                loss: losses[i],
                u: at(&u, i),
                theta_w: theta_w[i],
                theta_l: at(&theta_l, i),
                ref_w: at(&ref_w, i),
                ref_l: at(&ref_l, i),
            })
            .collect())
    }

    pub fn h_w(&self) -> Option<f64> {
        Some(self.ref_w? - self.theta_w)
    }

    pub fn h_l(&self) -> Option<f64> {
        Some(self.ref_l? - self.theta_l?)
    }

    /// h = h_w - h_l
    pub fn h(&self) -> Option<f64> {
        Some(self.h_w()? - self.h_l()?)
    }
}

/// A 1-d tensor as numbers.
pub fn numbers(t: &Tensor) -> Result<Vec<f64>> {
    let flat = t.detach().to_device(tch::Device::Cpu).to_kind(Kind::Double).contiguous();
    Vec::<f64>::try_from(&flat).context("expected a 1-d tensor")
}

/// All pairs of a step.
#[derive(Debug, Clone, Default)]
pub struct StepRecords {
    pub pairs: Vec<PairRecord>,
}

impl StepRecords {
    /// Mean of what every pair has; `None` when some have not.
    pub fn mean(&self, value: impl Fn(&PairRecord) -> Option<f64>) -> Option<f64> {
        let values: Option<Vec<f64>> = self.pairs.iter().map(value).collect();
        mean(&values?)
    }

    pub fn mean_abs_h(&self) -> Option<f64> {
        self.mean(|p| p.h().map(f64::abs))
    }

    /// The keys that follow from the pairs, in the order of docs/train.md.
    pub fn write(&self, into: &mut Map<String, Value>, total_timesteps: i64) {
        put(into, "loss", self.mean(|p| Some(p.loss)));
        put(into, "implicit_acc", self.mean(|p| p.u.map(wins)));
        put(into, "margin", self.mean(PairRecord::h));
        put(into, "reward_w", self.mean(PairRecord::h_w));
        put(into, "reward_l", self.mean(PairRecord::h_l));
        put(into, "model_mse_w", self.mean(|p| Some(p.theta_w)));
        put(into, "model_mse_l", self.mean(|p| p.theta_l));
        put(into, "ref_mse_w", self.mean(|p| p.ref_w));
        put(into, "ref_mse_l", self.mean(|p| p.ref_l));
        put(into, "gap_w", self.mean(|p| p.h_w().map(|h| -h)));
        put(into, "gap_l", self.mean(|p| p.h_l().map(|h| -h)));
        put(into, "gradient_factor", self.mean(|p| p.u.map(|u| 1.0 / (1.0 + u.exp()))));
        put(into, "negative_margin", self.mean(|p| p.h().map(|h| f64::from(h < 0.0))));
        if self.pairs.iter().all(|p| p.h().is_some()) && !self.pairs.is_empty() {
            into.insert("margin_by_t".into(), self.margin_by_t(total_timesteps));
        }
    }

    /// Means of h over tenths of [0, T); null where a tenth had no pair.
    fn margin_by_t(&self, total_timesteps: i64) -> Value {
        let tenth = |i: i64| {
            let inside = self.pairs.iter().filter(|p| p.timestep * 10 / total_timesteps == i);
            mean(&inside.filter_map(PairRecord::h).collect::<Vec<_>>())
        };
        json!((0..10).map(tenth).collect::<Vec<Option<f64>>>())
    }
}

/// 1 above zero, one half at zero.
pub fn wins(u: f64) -> f64 {
    if u > 0.0 {
        1.0
    } else if u == 0.0 {
        0.5
    } else {
        0.0
    }
}

/// `None` for an empty list.
pub fn mean(values: &[f64]) -> Option<f64> {
    (!values.is_empty()).then(|| values.iter().sum::<f64>() / values.len() as f64)
}

/// Sets `key` unless the method has no value for it. A value that is not finite becomes null, for JSON has no word for
/// it: absent would say that there is none.
pub fn put(into: &mut Map<String, Value>, key: &str, value: Option<f64>) {
    if let Some(x) = value {
        into.insert(key.into(), json!(x));
    }
}

/// Peak resident memory of this process in GiB, or of the device's allocator on CUDA.
pub fn peak_mem_gib(device: tch::Device) -> Option<f64> {
    const GIB: f64 = (1u64 << 30) as f64;
    if let tch::Device::Cuda(i) = device {
        return diffpref_native::cuda_peak_bytes(i).ok().map(|b| b as f64 / GIB);
    }
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find(|l| l.starts_with("VmHWM:"))?;
    let kib: f64 = line.split_whitespace().nth(1)?.parse().ok()?;
    Some(kib * 1024.0 / GIB)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pair(timestep: i64, h_w: f64, h_l: f64) -> PairRecord {
        PairRecord {
            id: "x".into(),
            timestep,
            loss: 1.0,
            u: Some(2500.0 * (h_w - h_l)),
            theta_w: 0.1 - h_w,
            theta_l: Some(0.2 - h_l),
            ref_w: Some(0.1),
            ref_l: Some(0.2),
        }
    }

    #[test]
    fn means_run_over_the_pairs_of_the_step() {
        let records = StepRecords { pairs: vec![pair(5, 0.002, 0.001), pair(999, -0.001, 0.001), pair(950, 0.0, 0.0)] };
        let mut m = Map::new();
        records.write(&mut m, 1000);
        let get = |k: &str| m[k].as_f64().unwrap();
        assert!((get("margin") - (0.001 - 0.002) / 3.0).abs() < 1e-12);
        assert!((get("gap_w") + get("reward_w")).abs() < 1e-15);
        assert!((get("implicit_acc") - 0.5).abs() < 1e-12);
        assert!((get("negative_margin") - 1.0 / 3.0).abs() < 1e-12);
        assert!(m["margin_by_t"][1].is_null());
        assert!((m["margin_by_t"][9].as_f64().unwrap() + 0.001).abs() < 1e-9);
    }

    #[test]
    fn keys_without_a_value_are_absent() {
        let mut one = pair(5, 0.0, 0.0);
        (one.u, one.theta_l, one.ref_w, one.ref_l) = (None, None, None, None);
        let mut m = Map::new();
        StepRecords { pairs: vec![one] }.write(&mut m, 1000);
        assert_eq!(m.keys().collect::<Vec<_>>(), ["loss", "model_mse_w"]);
    }

    #[test]
    fn a_value_that_is_not_finite_stays_visible_as_null() {
        let mut m = Map::new();
        put(&mut m, "loss", Some(f64::NAN));
        put(&mut m, "beta", None);
        assert_eq!(Value::Object(m).to_string(), r#"{"loss":null}"#);
    }
}
