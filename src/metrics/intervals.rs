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

/// The mean of `values` with its interval, where whole clusters are resampled: pairs of one prompt are alike.
/// `clusters`: the cluster of every value, counted from 0. `None` without values.
pub fn clustered_bootstrap(values: &[f64], clusters: &[usize]) -> Option<Interval> {
    let count = clusters.iter().max()? + 1;
    let mut sums = vec![(0.0, 0usize); count];
    for (value, cluster) in values.iter().zip(clusters) {
        sums[*cluster] = (sums[*cluster].0 + value, sums[*cluster].1 + 1);
    }
    sums.retain(|(_, members)| *members > 0);
    let ratio = |(sum, members): (f64, usize)| sum / members as f64;
    let add = |a: (f64, usize), b: &(f64, usize)| (a.0 + b.0, a.1 + b.1);
    let mut generator = SplitMix64(SEED);
    let drawn = (0..RESAMPLES).map(|_| {
        let picked = (0..sums.len()).fold((0.0, 0), |total, _| add(total, &sums[generator.below(sums.len())]));
        ratio(picked)
    });
    let drawn = drawn.collect();
    Some(interval(ratio(sums.iter().fold((0.0, 0), add)), drawn))
}

/// Means of a point over its training seeds and prompts, with the resampled means.
pub struct Resampled {
    pub mean: f64,
    drawn: Vec<f64>,
}

impl Resampled {
    /// The mean and its 95 % interval.
    pub fn interval(&self) -> Interval {
        interval(self.mean, self.drawn.clone())
    }

    /// This mean minus another one: both share the resamples, so common variation cancels.
    pub fn minus(&self, other: &Self) -> Interval {
        let drawn = self.drawn.iter().zip(&other.drawn).map(|(a, b)| a - b).collect();
        interval(self.mean - other.mean, drawn)
    }
}

/// Hierarchical bootstrap of `points[point][seed][prompt]`, with the same prompts in the same order everywhere. A resample
/// draws training seeds, then prompts, which all drawn seeds share: prompts are crossed with seeds, and prompts drawn
/// per seed would hide their variation (Owen 2007, The pigeonhole bootstrap). Points with equally many seeds share the
/// drawn seeds. `None` without points, seeds or prompts, or with unequal numbers of prompts.
pub fn crossed_bootstrap(points: &[Vec<Vec<f64>>]) -> Option<Vec<Resampled>> {
    let most = points.iter().map(Vec::len).max().filter(|_| points.iter().all(|seeds| !seeds.is_empty()))?;
    let prompts = points.first()?.first().map(Vec::len).filter(|n| *n > 0)?;
    if points.iter().flatten().any(|values| values.len() != prompts) {
        return None;
    }
    let mut generator = SplitMix64(SEED);
    let mut drawn = vec![Vec::with_capacity(RESAMPLES); points.len()];
    let (mut seeds, mut picks) = (vec![0; most], vec![0; prompts]);
    for _ in 0..RESAMPLES {
        seeds.fill_with(|| generator.next());
        picks.fill_with(|| generator.below(prompts));
        for (means, values) in drawn.iter_mut().zip(points) {
            let chosen = seeds.iter().take(values.len()).map(|raw| &values[scaled(*raw, values.len())]);
            let sum: f64 = chosen.map(|of_seed| picks.iter().map(|&i| of_seed[i]).sum::<f64>()).sum();
            means.push(sum / (values.len() * prompts) as f64);
        }
    }
    let mean = |values: &Vec<Vec<f64>>| values.iter().flatten().sum::<f64>() / (values.len() * prompts) as f64;
    Some(points.iter().zip(drawn).map(|(values, drawn)| Resampled { mean: mean(values), drawn }).collect())
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
        scaled(self.next(), n)
    }
}

/// 64 random bits as a whole number in `0..n`.
fn scaled(raw: u64, n: usize) -> usize {
    ((u128::from(raw) * n as u128) >> 64) as usize
}
