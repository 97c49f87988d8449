//! 95 % intervals by paired bootstrap over names: a name's pictures share their prompt, so names are what is drawn.

use super::figures::{Interval, Measure};

/// Bootstrap resamples.
const RESAMPLES: usize = 10_000;
/// The seed of the bootstrap: the same figures give the same intervals everywhere.
const SEED: u64 = 20_240_917;

/// A measure from `per_name[model][name]`: the mean over a name's pictures, the same names in the same order for every
/// model. The intervals are the 2.5 % and 97.5 % quantiles over resampled names; the same names are drawn for all
/// models at once, so that what the models share cancels out of the difference. `None` without models or names.
pub fn paired_bootstrap(per_name: &[Vec<f64>]) -> Option<Measure> {
    let names = per_name.first().map(Vec::len).filter(|n| *n > 0)?;
    if per_name.iter().any(|values| values.len() != names) {
        return None;
    }
    let mut generator = SplitMix64(SEED);
    let mut means = vec![Vec::with_capacity(RESAMPLES); per_name.len()];
    let mut picks = vec![0; names];
    for _ in 0..RESAMPLES {
        picks.fill_with(|| generator.below(names));
        for (model, values) in means.iter_mut().zip(per_name) {
            model.push(picks.iter().map(|&i| values[i]).sum::<f64>() / names as f64);
        }
    }
    let exact: Vec<f64> = per_name.iter().map(|values| values.iter().sum::<f64>() / names as f64).collect();
    let models = exact.iter().zip(&means).map(|(mean, drawn)| interval(*mean, drawn.clone()));
    let differences = exact.iter().zip(&means).skip(1).map(|(mean, drawn)| {
        let drawn = drawn.iter().zip(&means[0]).map(|(after, before)| after - before).collect();
        interval(mean - exact[0], drawn)
    });
    Some(Measure { models: models.collect(), differences: differences.collect() })
}

fn interval(mean: f64, mut drawn: Vec<f64>) -> Interval {
    drawn.sort_by(f64::total_cmp);
    let quantile = |q: f64| drawn[((drawn.len() - 1) as f64 * q).round() as usize];
    Interval { mean, lo: quantile(0.025), hi: quantile(0.975) }
}

/// Steele, Lea and Flood 2014: small, fast, and good enough for picking names.
struct SplitMix64(u64);

impl SplitMix64 {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let z = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// A whole number in `0..n`; the bias of the multiplication is below n / 2^64.
    fn below(&mut self, n: usize) -> usize {
        ((u128::from(self.next()) * n as u128) >> 64) as usize
    }
}
