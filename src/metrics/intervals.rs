//! 95 % intervals by paired bootstrap over prompts: pictures of one prompt are alike, so prompts are resampled.

use super::evaluation::{Compared, Interval};

/// Bootstrap resamples.
const RESAMPLES: usize = 10_000;
/// The seed of the bootstrap: the same figures give the same intervals everywhere.
const SEED: u64 = 20_240_917;

/// Means and differences from `per_prompt[model][prompt]`: the mean over a prompt's pictures, with the same prompts
/// in the same order for every model. The intervals are the 2.5 % and 97.5 % quantiles over resampled prompts. All
/// models share the resamples, so that common variation cancels in the differences. `None` without models or prompts.
pub fn paired_bootstrap(per_prompt: &[Vec<f64>]) -> Option<Compared> {
    let prompts = per_prompt.first().map(Vec::len).filter(|n| *n > 0)?;
    if per_prompt.iter().any(|values| values.len() != prompts) {
        return None;
    }
    let mut generator = SplitMix64(SEED);
    let mut means = vec![Vec::with_capacity(RESAMPLES); per_prompt.len()];
    let mut picks = vec![0; prompts];
    for _ in 0..RESAMPLES {
        picks.fill_with(|| generator.below(prompts));
        for (model, values) in means.iter_mut().zip(per_prompt) {
            model.push(picks.iter().map(|&i| values[i]).sum::<f64>() / prompts as f64);
        }
    }
    let exact: Vec<f64> = per_prompt.iter().map(|values| values.iter().sum::<f64>() / prompts as f64).collect();
    let models = exact.iter().zip(&means).map(|(mean, drawn)| interval(*mean, drawn.clone()));
    let differences = exact.iter().zip(&means).skip(1).map(|(mean, drawn)| {
        let drawn = drawn.iter().zip(&means[0]).map(|(after, before)| after - before).collect();
        interval(mean - exact[0], drawn)
    });
    Some(Compared { models: models.collect(), differences: differences.collect(), ..Compared::default() })
}

fn interval(mean: f64, mut drawn: Vec<f64>) -> Interval {
    drawn.sort_by(f64::total_cmp);
    let quantile = |q: f64| drawn[((drawn.len() - 1) as f64 * q).round() as usize];
    Interval { mean, lo: quantile(0.025), hi: quantile(0.975) }
}

/// SplitMix64 (Steele, Lea and Flood 2014): small, fast, and sufficient for resampling prompts.
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
