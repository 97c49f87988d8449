//! Records of the items of a step, and their keys in its metrics line. Names: docs/train.md.

use crate::metrics::{put, wins};
use crate::networks::{InversionWatch, Renewal};
use crate::numbers::mean;
use crate::objectives::{Compared, Evaluation, ItemLoss, Labelled};
use pipelines::LevelRange;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

/// All items of a step.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct StepRecords {
    /// One per item that counts.
    pub losses: Vec<ItemLoss>,
    /// Pairs, or pairs of images of lists.
    pub compared: Vec<Compared>,
    pub labelled: Vec<Labelled>,
    /// Loss weights and logit factors, if the method or the data has any.
    pub effective_weights: Vec<f64>,
    /// lam of the safeguard, one per pair.
    pub lam: Vec<f64>,
    inversion: InversionWatch,
    units: UnitRecords,
}

/// Upper ends of the bins of `weight_hist`; the last bin has none.
const WEIGHT_BINS: [f64; 4] = [0.1, 0.3, 1.0, 3.0];

impl StepRecords {
    /// A micro-batch of items. `lam`: the safeguard's, one per pair.
    pub fn of_items(evaluation: Evaluation, lam: Vec<f64>, inversion: Option<InversionWatch>) -> Self {
        let Evaluation { losses, compared, labelled, effective_weights, .. } = evaluation;
        let inversion = inversion.unwrap_or_default();
        Self { losses, compared, labelled, effective_weights, lam, inversion, units: UnitRecords::default() }
    }

    /// A micro-batch of units.
    pub fn of_units(losses: &[f64], units: UnitRecords) -> Self {
        let one = |(item, loss): (usize, &f64)| ItemLoss { item, loss: *loss, unweighted: *loss };
        Self { losses: losses.iter().enumerate().map(one).collect(), units, ..Self::default() }
    }

    /// Adds the next micro-batch.
    pub fn extend(&mut self, other: Self) {
        self.losses.extend(other.losses);
        self.compared.extend(other.compared);
        self.labelled.extend(other.labelled);
        self.effective_weights.extend(other.effective_weights);
        self.lam.extend(other.lam);
        self.inversion.add(&other.inversion);
        self.units.add(other.units);
    }

    /// Pairs without ties, which count in the loss only.
    fn preferences(&self) -> impl Iterator<Item = &Compared> {
        self.compared.iter().filter(|c| !c.tie)
    }

    /// Mean of a value that every pair has; `None` if some have none.
    fn mean(&self, value: impl Fn(&Compared) -> Option<f64>) -> Option<f64> {
        let values: Option<Vec<f64>> = self.preferences().map(value).collect();
        mean(&values?)
    }

    fn mean_of_class(&self, desirable: bool, value: impl Fn(&Labelled) -> Option<f64>) -> Option<f64> {
        let values: Option<Vec<f64>> = self.labelled.iter().filter(|l| l.desirable == desirable).map(value).collect();
        mean(&values?)
    }

    pub fn mean_abs_h(&self) -> Option<f64> {
        self.mean(|c| c.h().map(f64::abs))
    }

    /// Mean errors of policy and reference, winners and losers each; `None` for a method without all four.
    pub fn errors(&self) -> Option<[f64; 4]> {
        let pairs = [
            self.mean(|c| Some(c.theta_w))?,
            self.mean(|c| c.theta_l)?,
            self.mean(|c| c.ref_w)?,
            self.mean(|c| c.ref_l)?,
        ];
        Some(pairs)
    }

    /// The keys derived from the items, in the order of docs/train.md. `weighted`: losses have weights. `statistic`:
    /// the objective's, with its name.
    pub fn write(
        &self,
        into: &mut Map<String, Value>,
        weighted: bool,
        statistic: Option<(&str, f64)>,
        range: LevelRange,
    ) {
        let over_items = |f: &dyn Fn(&ItemLoss) -> f64| mean(self.losses.iter().map(f));
        put(into, "loss", over_items(&|l| l.loss));
        if weighted {
            put(into, "loss_unweighted", over_items(&|l| l.unweighted));
        }
        self.write_pairs(into, range);
        self.write_labels(into);
        self.units.write(into);
        if !self.effective_weights.is_empty() {
            put(into, "weight_mean", mean(&self.effective_weights));
            into.insert("weight_hist".into(), self.weight_hist());
        }
        put(into, "safeguard_lam", mean(&self.lam));
        put(into, "tau_rms", self.inversion.tau_rms());
        put(into, "inversion_error", self.inversion.error());
        if let Some((name, value)) = statistic.filter(|_| !self.losses.is_empty()) {
            put(into, name, Some(value));
        }
    }

    fn write_pairs(&self, into: &mut Map<String, Value>, range: LevelRange) {
        put(into, "implicit_acc", self.mean(|c| c.u.map(wins)));
        put(into, "margin", self.mean(Compared::h));
        put(into, "reward_w", self.mean(Compared::h_w));
        put(into, "reward_l", self.mean(Compared::h_l));
        put(into, "model_mse_w", self.mean(|c| Some(c.theta_w)));
        put(into, "model_mse_l", self.mean(|c| c.theta_l));
        put(into, "ref_mse_w", self.mean(|c| c.ref_w));
        put(into, "ref_mse_l", self.mean(|c| c.ref_l));
        put(into, "gap_w", self.mean(|c| c.h_w().map(|h| -h)));
        put(into, "gap_l", self.mean(|c| c.h_l().map(|h| -h)));
        put(into, "gradient_factor", self.mean(|c| c.u.map(|u| 1.0 / (1.0 + u.exp()))));
        put(into, "negative_margin", self.mean(|c| c.h().map(|h| f64::from(h < 0.0))));
        if self.preferences().next().is_some() && self.preferences().all(|c| c.h().is_some()) {
            into.insert("margin_by_t".into(), self.margin_by_t(range));
        }
    }

    /// w: desirable, l: undesirable.
    fn write_labels(&self, into: &mut Map<String, Value>) {
        let reward = |l: &Labelled| l.reference.map(|r| r - l.theta);
        for (class, desirable) in [("w", true), ("l", false)] {
            let mut set = |name: &str, value: Option<f64>| put(into, &format!("{name}_{class}"), value);
            set("reward", self.mean_of_class(desirable, reward));
            set("model_mse", self.mean_of_class(desirable, |l| Some(l.theta)));
            set("ref_mse", self.mean_of_class(desirable, |l| l.reference));
            set("gap", self.mean_of_class(desirable, |l| reward(l).map(|h| -h)));
        }
    }

    /// Means of h over tenths of the noise levels; null for a tenth without a pair.
    fn margin_by_t(&self, range: LevelRange) -> Value {
        let tenth = |i: i64| {
            let inside = self.preferences().filter(|c| range.part(c.level, 10) == i);
            mean(inside.filter_map(Compared::h))
        };
        json!((0..10).map(tenth).collect::<Vec<Option<f64>>>())
    }

    /// Shares of the effective weights below 0.1, 0.3, 1, 3, and above.
    fn weight_hist(&self) -> Value {
        let mut counts = [0u64; WEIGHT_BINS.len() + 1];
        for weight in &self.effective_weights {
            counts[WEIGHT_BINS.iter().take_while(|end| weight >= *end).count()] += 1;
        }
        json!(counts.map(|n| n as f64 / self.effective_weights.len() as f64))
    }
}

/// Sums over units for the metrics line of a step.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct UnitRecords {
    /// r of every transition read.
    pub r: Vec<f64>,
    pub logits: Vec<f64>,
    /// Mean squared distance of predictions from the start model's.
    pub drift: Vec<f64>,
    /// Transitions without gradient because of a clamp, of those read.
    pub clamped: usize,
    pub read: usize,
}

impl UnitRecords {
    /// Adds a micro-batch.
    pub fn add(&mut self, other: Self) {
        self.r.extend(other.r);
        self.logits.extend(other.logits);
        self.drift.extend(other.drift);
        self.clamped += other.clamped;
        self.read += other.read;
    }

    /// The keys of metrics.jsonl; none without units.
    pub fn write(&self, into: &mut Map<String, Value>) {
        let of = |values: &[f64], f: &dyn Fn(f64) -> f64| mean(values.iter().map(|x| f(*x)));
        put(into, "implicit_acc", of(&self.logits, &wins));
        put(into, "gradient_factor", of(&self.logits, &|u| 1.0 / (1.0 + u.exp())));
        put(into, "log_ratio", of(&self.r, &|r| r));
        put(into, "approx_kl", of(&self.r, &|r| 0.5 * r * r));
        put(into, "noise_pred_drift", mean(&self.drift));
        put(into, "clamped_fraction", (self.read > 0).then(|| self.clamped as f64 / self.read as f64));
    }
}

/// Change of the reference in a step, if any.
pub fn write_renewal(into: &mut Map<String, Value>, renewal: &Renewal) {
    if let Some((divergence, smoothed)) = renewal.divergence {
        put(into, "divergence", Some(divergence));
        put(into, "divergence_smoothed", Some(smoothed));
    }
    for (key, present) in [("reference_copied", renewal.copied), ("reference_frozen", renewal.frozen)] {
        if present {
            into.insert(key.into(), json!(true));
        }
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

    fn pair(level: f64, h_w: f64, h_l: f64) -> Compared {
        Compared {
            id: "x".into(),
            level,
            u: Some(2500.0 * (h_w - h_l)),
            theta_w: 0.1 - h_w,
            theta_l: Some(0.2 - h_l),
            ref_w: Some(0.1),
            ref_l: Some(0.2),
            tie: false,
        }
    }

    fn of_pairs(compared: Vec<Compared>) -> StepRecords {
        let losses = (0..compared.len()).map(|item| ItemLoss { item, loss: 1.0, unweighted: 2.0 }).collect();
        StepRecords { losses, compared, ..StepRecords::default() }
    }

    fn written(records: &StepRecords) -> Map<String, Value> {
        let mut m = Map::new();
        records.write(&mut m, false, None, LevelRange::Steps(1000));
        m
    }

    #[test]
    fn means_run_over_the_pairs_of_the_step() {
        let m = written(&of_pairs(vec![pair(5.0, 0.002, 0.001), pair(999.0, -0.001, 0.001), pair(950.0, 0.0, 0.0)]));
        let get = |k: &str| m[k].as_f64().unwrap();
        assert!((get("margin") - (0.001 - 0.002) / 3.0).abs() < 1e-12);
        assert!((get("gap_w") + get("reward_w")).abs() < 1e-15);
        assert!((get("implicit_acc") - 0.5).abs() < 1e-12);
        assert!((get("negative_margin") - 1.0 / 3.0).abs() < 1e-12);
        assert!(m["margin_by_t"][1].is_null());
        assert!((m["margin_by_t"][9].as_f64().unwrap() + 0.001).abs() < 1e-9);
    }

    #[test]
    fn ties_count_in_the_loss_only() {
        let tie = Compared { tie: true, ..pair(5.0, 1.0, -1.0) };
        let m = written(&of_pairs(vec![tie, pair(5.0, 0.002, 0.001)]));
        assert!((m["margin"].as_f64().unwrap() - 0.001).abs() < 1e-12);
        assert_eq!(m["loss"].as_f64(), Some(1.0));
    }

    #[test]
    fn keys_without_a_value_are_absent() {
        let mut one = pair(5.0, 0.0, 0.0);
        (one.u, one.theta_l, one.ref_w, one.ref_l) = (None, None, None, None);
        assert_eq!(written(&of_pairs(vec![one])).keys().collect::<Vec<_>>(), ["loss", "model_mse_w"]);
    }

    #[test]
    fn a_class_of_labels_that_a_step_lacks_has_no_keys() {
        let one = Labelled { id: "x".into(), level: 3.0, desirable: true, theta: 0.1, reference: Some(0.3) };
        let records = StepRecords { labelled: vec![one], ..StepRecords::default() };
        let m = written(&records);
        assert!((m["reward_w"].as_f64().unwrap() - 0.2).abs() < 1e-12);
        assert_eq!(m.keys().collect::<Vec<_>>(), ["reward_w", "model_mse_w", "ref_mse_w", "gap_w"]);
    }

    #[test]
    fn the_histogram_of_weights_gives_shares() {
        let records = StepRecords { effective_weights: vec![0.05, 0.1, 1.0, 5.0], ..StepRecords::default() };
        assert_eq!(written(&records)["weight_hist"], json!([0.25, 0.25, 0.0, 0.25, 0.25]));
    }
}
