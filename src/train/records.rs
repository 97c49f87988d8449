//! Records of the items of a step, and their keys in its metrics line. Names: docs/train.md.

use crate::metrics::{Line, gradient_factor, wins};
use crate::networks::{InversionWatch, Renewal};
use crate::numbers::mean;
use crate::objectives::{Compared, Evaluation, ItemLoss, Labelled};
use pipelines::LevelRange;
use serde::{Deserialize, Serialize};

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

    /// Largest |rho - 1| of the transitions read; `None` without any.
    pub fn largest_ratio_error(&self) -> Option<f64> {
        self.units.r.iter().map(|r| r.exp_m1().abs()).reduce(f64::max)
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

    /// Sets the numbers of the items. `weighted`: losses have weights. `statistic`: the objective's, with its name.
    pub fn write(&self, line: &mut Line, weighted: bool, statistic: Option<(&str, f64)>, range: LevelRange) {
        line.loss = mean(self.losses.iter().map(|l| l.loss));
        line.loss_unweighted = if weighted { mean(self.losses.iter().map(|l| l.unweighted)) } else { None };
        match self.labelled.is_empty() {
            true => self.write_pairs(line, range),
            false => self.write_labels(line),
        }
        self.units.write(line);
        line.weight_mean = mean(&self.effective_weights);
        line.weight_hist = self.weight_hist();
        line.safeguard_lam = mean(&self.lam);
        line.tau_rms = self.inversion.tau_rms();
        line.inversion_error = self.inversion.error();
        if let Some((name, value)) = statistic.filter(|_| !self.losses.is_empty()) {
            line.named.put(name, Some(value));
        }
    }

    fn write_pairs(&self, line: &mut Line, range: LevelRange) {
        line.implicit_acc = self.mean(|c| c.u.map(wins));
        line.margin = self.mean(Compared::h);
        line.reward_w = self.mean(Compared::h_w);
        line.reward_l = self.mean(Compared::h_l);
        line.model_mse_w = self.mean(|c| Some(c.theta_w));
        line.model_mse_l = self.mean(|c| c.theta_l);
        line.ref_mse_w = self.mean(|c| c.ref_w);
        line.ref_mse_l = self.mean(|c| c.ref_l);
        line.gap_w = line.reward_w.map(|h| -h);
        line.gap_l = line.reward_l.map(|h| -h);
        line.gradient_factor = self.mean(|c| c.u.map(gradient_factor));
        line.negative_margin = self.mean(|c| c.h().map(|h| f64::from(h < 0.0)));
        if self.preferences().all(|c| c.h().is_some()) {
            line.margin_by_t = self.margin_by_t(range);
        }
    }

    /// w: desirable, l: undesirable.
    fn write_labels(&self, line: &mut Line) {
        let reward = |l: &Labelled| l.reference.map(|r| r - l.theta);
        line.reward_w = self.mean_of_class(true, reward);
        line.reward_l = self.mean_of_class(false, reward);
        line.model_mse_w = self.mean_of_class(true, |l| Some(l.theta));
        line.model_mse_l = self.mean_of_class(false, |l| Some(l.theta));
        line.ref_mse_w = self.mean_of_class(true, |l| l.reference);
        line.ref_mse_l = self.mean_of_class(false, |l| l.reference);
        line.gap_w = line.reward_w.map(|h| -h);
        line.gap_l = line.reward_l.map(|h| -h);
    }

    /// Means of h over tenths of the noise levels; empty without pairs.
    fn margin_by_t(&self, range: LevelRange) -> Vec<Option<f64>> {
        let tenth = |i: i64| {
            let inside = self.preferences().filter(|c| range.part(c.level, 10) == i);
            mean(inside.filter_map(Compared::h))
        };
        let tenths = if self.preferences().next().is_some() { 10 } else { 0 };
        (0..tenths).map(tenth).collect()
    }

    /// Shares of the effective weights below 0.1, 0.3, 1, 3, and above; empty without weights.
    fn weight_hist(&self) -> Vec<f64> {
        let of = self.effective_weights.len();
        let mut counts = vec![0u64; if of == 0 { 0 } else { WEIGHT_BINS.len() + 1 }];
        for weight in &self.effective_weights {
            counts[WEIGHT_BINS.iter().take_while(|end| weight >= *end).count()] += 1;
        }
        counts.into_iter().map(|n| n as f64 / of as f64).collect()
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
    /// Squared distance of a step's mean from the start model's, over 2 sigma_t^2.
    pub start_kl: Vec<f64>,
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
        self.start_kl.extend(other.start_kl);
        self.clamped += other.clamped;
        self.read += other.read;
    }

    /// Sets the numbers of a step of units; none without units.
    fn write(&self, line: &mut Line) {
        let of = |values: &[f64], f: &dyn Fn(f64) -> f64| mean(values.iter().map(|x| f(*x)));
        if !self.logits.is_empty() {
            line.implicit_acc = of(&self.logits, &wins);
            line.gradient_factor = of(&self.logits, &gradient_factor);
        }
        line.log_ratio = mean(&self.r);
        line.approx_kl = of(&self.r, &|r| 0.5 * r * r);
        line.noise_pred_drift = mean(&self.drift);
        line.start_kl = mean(&self.start_kl);
        line.clamped_fraction = (self.read > 0).then(|| self.clamped as f64 / self.read as f64);
    }
}

/// Change of the reference in a step, if any.
pub fn write_renewal(line: &mut Line, renewal: &Renewal) {
    (line.divergence, line.divergence_smoothed) = renewal.divergence.unzip();
    (line.reference_copied, line.reference_frozen) = (renewal.copied, renewal.frozen);
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

    fn written(records: &StepRecords) -> Line {
        let mut line = Line::default();
        records.write(&mut line, false, None, LevelRange::Steps(1000));
        line
    }

    fn keys(line: &Line) -> Vec<String> {
        line.numbers().unwrap().into_iter().map(|(key, _)| key).collect()
    }

    #[test]
    fn means_run_over_the_pairs_of_the_step() {
        let m = written(&of_pairs(vec![pair(5.0, 0.002, 0.001), pair(999.0, -0.001, 0.001), pair(950.0, 0.0, 0.0)]));
        assert!((m.margin.unwrap() - (0.001 - 0.002) / 3.0).abs() < 1e-12);
        assert!((m.gap_w.unwrap() + m.reward_w.unwrap()).abs() < 1e-15);
        assert!((m.implicit_acc.unwrap() - 0.5).abs() < 1e-12);
        assert!((m.negative_margin.unwrap() - 1.0 / 3.0).abs() < 1e-12);
        assert_eq!((m.margin_by_t.len(), m.margin_by_t[1]), (10, None));
        assert!((m.margin_by_t[9].unwrap() + 0.001).abs() < 1e-9);
    }

    #[test]
    fn ties_count_in_the_loss_only() {
        let tie = Compared { tie: true, ..pair(5.0, 1.0, -1.0) };
        let m = written(&of_pairs(vec![tie, pair(5.0, 0.002, 0.001)]));
        assert!((m.margin.unwrap() - 0.001).abs() < 1e-12);
        assert_eq!(m.loss, Some(1.0));
    }

    #[test]
    fn keys_without_a_value_are_absent() {
        let mut one = pair(5.0, 0.0, 0.0);
        (one.u, one.theta_l, one.ref_w, one.ref_l) = (None, None, None, None);
        assert_eq!(keys(&written(&of_pairs(vec![one]))), ["loss", "model_mse_w"]);
    }

    #[test]
    fn a_class_of_labels_that_a_step_lacks_has_no_keys() {
        let one = Labelled { id: "x".into(), level: 3.0, desirable: true, theta: 0.1, reference: Some(0.3) };
        let records = StepRecords { labelled: vec![one], ..StepRecords::default() };
        let m = written(&records);
        assert!((m.reward_w.unwrap() - 0.2).abs() < 1e-12);
        assert_eq!(keys(&m), ["reward_w", "model_mse_w", "ref_mse_w", "gap_w"]);
    }

    #[test]
    fn the_histogram_of_weights_gives_shares() {
        let records = StepRecords { effective_weights: vec![0.05, 0.1, 1.0, 5.0], ..StepRecords::default() };
        assert_eq!(written(&records).weight_hist, [0.25, 0.25, 0.0, 0.25, 0.25]);
    }
}
