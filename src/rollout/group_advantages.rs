//! Advantages of pictures over the other pictures of their prompt in one iteration (docs/methods.md, section 10e).
//!
//! ```text
//! A_i = (R_i - mean_G R) / (std_G R + 1e-8)        std "group": of the prompt's rewards, over G - 1
//! A_i = (R_i - mean_G R) / (std R + 1e-4)          std "batch": of all rewards of the iteration, over N
//! several scorers: A = sum over scorers of weight times its own A
//! ```

use crate::objectives::{Groups, Renormalise, Spread};

const SMALL: f64 = 1e-8;
const SMALL_OF_BATCH: f64 = 1e-4;
/// A group whose standard deviation is below this share of its largest |R| counts as equal: no noise of float32 scores
/// becomes an advantage.
const EQUAL: f64 = 1e-6;
/// Groups with a mean below this are not measured in percent.
const LOWEST_MEAN: f64 = 0.05;

/// Advantages of an iteration's trajectories, `None` for those of a group without any spread, whose pictures teach
/// nothing.
///
/// `each`: rewards of every scorer, `[scorers][groups x size]`; `weights`: one per scorer.
pub fn advantages(groups: &Groups, size: usize, each: &[Vec<f64>], weights: &[f64]) -> Vec<Option<f64>> {
    let mut sums = vec![0.0; each.first().map_or(0, Vec::len)];
    for (rewards, weight) in each.iter().zip(weights) {
        let own = of_scorer(groups, size, rewards);
        sums.iter_mut().zip(own).for_each(|(sum, a)| *sum += weight * a);
    }
    let idle: Vec<bool> = sums.chunks(size).map(|group| group.iter().all(|a| *a == 0.0)).collect();
    let scaled = match groups.renormalise {
        Renormalise::None => sums,
        Renormalise::Batch => {
            let all = Moments::of(&sums, 1.0);
            sums.iter().map(|a| (a - all.mean) / (all.std + SMALL)).collect()
        }
    };
    scaled.into_iter().enumerate().map(|(i, a)| (!idle[i / size]).then_some(a)).collect()
}

fn of_scorer(groups: &Groups, size: usize, rewards: &[f64]) -> Vec<f64> {
    let batch = Moments::of(rewards, 0.0);
    let of_group = |group: &[f64]| -> Vec<f64> {
        let own = Moments::of(group, 1.0);
        if is_equal(group, own.std) {
            return vec![0.0; group.len()];
        }
        let std = match groups.std {
            Spread::Group => own.std + SMALL,
            Spread::Batch => batch.std + SMALL_OF_BATCH,
        };
        match groups.mixed_advantage {
            true => mixed(group, std),
            false => group.iter().map(|r| (r - own.mean) / std).collect(),
        }
    };
    rewards.chunks(size).flat_map(of_group).collect()
}

fn is_equal(group: &[f64], std: f64) -> bool {
    std < EQUAL * group.iter().fold(0.0, |largest: f64, r| largest.max(r.abs())) || std == 0.0
}

/// A = (1 - l) (R - m) / s + l (R - m) / m, l = 1 - 4 p (1 - p), p: share of rewards above 1/2 (arXiv 2509.18849).
fn mixed(group: &[f64], std: f64) -> Vec<f64> {
    let n = group.len() as f64;
    let mean = Moments::of(group, 0.0).mean;
    let good = group.iter().filter(|r| **r > 0.5).count() as f64 / n;
    let l = if mean < LOWEST_MEAN { 0.0 } else { 1.0 - 4.0 * good * (1.0 - good) };
    group.iter().map(|r| (1.0 - l) * (r - mean) / std + if l > 0.0 { l * (r - mean) / mean } else { 0.0 }).collect()
}

/// R_i (1 - b (G - rank_i) / G), rank 0: the likeliest of the group under the policy that sampled (arXiv 2506.02355).
/// `log_probs`: sums over the steps of a trajectory.
pub fn unlikely(b: f64, size: usize, rewards: &[f64], log_probs: &[f64]) -> Vec<f64> {
    let lowered = |(rewards, likely): (&[f64], &[f64])| -> Vec<f64> {
        let n = rewards.len() as f64;
        let rank = |i: usize| (0..likely.len()).filter(|j| (likely[*j], i) > (likely[i], *j)).count() as f64;
        rewards.iter().enumerate().map(|(i, r)| r * (1.0 - b * (n - rank(i)) / n)).collect()
    };
    rewards.chunks(size).zip(log_probs.chunks(size)).flat_map(lowered).collect()
}

struct Moments {
    mean: f64,
    std: f64,
}

impl Moments {
    /// `less`: what is taken from N in the divisor of the variance.
    fn of(values: &[f64], less: f64) -> Self {
        let n = values.len() as f64;
        let mean = values.iter().sum::<f64>() / n.max(1.0);
        let square: f64 = values.iter().map(|v| (v - mean).powi(2)).sum();
        Self { mean, std: (square / (n - less).max(1.0)).sqrt() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PLAIN: Groups = Groups {
        std: Spread::Group,
        renormalise: Renormalise::None,
        timestep_fraction: 0.6,
        skip_last: 1,
        unlikeliness: 0.0,
        mixed_advantage: false,
    };

    fn assert_close(found: &[f64], expected: &[f64]) {
        assert_eq!(found.len(), expected.len());
        assert!(found.iter().zip(expected).all(|(a, b)| (a - b).abs() < 1.01e-6), "{found:?} is not {expected:?}");
    }

    fn of(groups: &Groups, rewards: &[f64]) -> Vec<f64> {
        let found = advantages(groups, 4, &[rewards.to_vec()], &[1.0]);
        found.into_iter().map(|a| a.expect("a spread")).collect()
    }

    /// docs/methods.md 21.9
    #[test]
    fn advantages_of_a_group_equal_the_fixtures() {
        let rewards = [0.31, 0.29, 0.33, 0.30];
        assert_close(&of(&PLAIN, &rewards), &[0.146385, -1.024694, 1.317464, -0.439155]);
        let batch = Groups { std: Spread::Batch, ..PLAIN };
        assert_close(&of(&batch, &rewards), &[0.167896, -1.175270, 1.511061, -0.503687]);
        assert_close(&of(&PLAIN, &[0.3100, 0.3101, 0.3099, 0.3102]), &[-0.387268, 0.387268, -1.161805, 1.161805]);
    }

    /// docs/methods.md 21.9
    #[test]
    fn advantages_of_several_scorers_are_summed_by_weight_and_standardised_once_more() {
        let (wins, clip) = (vec![0.5, 1.0 / 3.0, 1.0, 1.0 / 6.0], vec![0.28, 0.31, 0.27, 0.30]);
        assert_close(&of(&PLAIN, &wins), &[0.0, -0.462910, 1.388730, -0.925820]);
        let both = |groups: &Groups| -> Vec<f64> {
            let found = advantages(groups, 4, &[wins.clone(), clip.clone()], &[0.4, 0.6]);
            found.into_iter().flatten().collect()
        };
        assert_close(&both(&PLAIN), &[-0.328633, 0.472103, -0.101775, -0.041695]);
        let again = Groups { renormalise: Renormalise::Batch, ..PLAIN };
        assert_close(&both(&again), &[-0.971940, 1.396254, -0.301001, -0.123313]);
    }

    /// docs/methods.md 21.9
    #[test]
    fn likely_pictures_lose_reward_and_nearly_decided_prompts_are_measured_in_percent() {
        let rewards = [1.0, 1.0, 0.0, 1.0];
        let lowered = unlikely(0.25, 4, &rewards, &[-1.0, -3.0, -2.0, -4.0]);
        assert_close(&lowered, &[0.75, 0.875, 0.0, 0.9375]);
        let population = Moments::of(&rewards, 0.0).std;
        assert_close(&mixed(&rewards, population), &[0.516346, 0.516346, -1.549038, 0.516346]);
        assert_eq!(mixed(&[0.0, 0.0, 0.1, 0.0], 1.0), [-0.025, -0.025, 0.075, -0.025], "a mean near 0: no percent");
    }

    #[test]
    fn advantages_of_a_group_sum_to_0_and_a_constant_or_another_prompt_changes_nothing() {
        let rewards = [0.25, 0.5, -0.75, 1.5, 8.0, 2.0, 4.0, 1.0];
        let found = of(&PLAIN, &rewards);
        assert!(found.chunks(4).all(|group| group.iter().sum::<f64>().abs() < 1e-12), "{found:?}");
        let moved: Vec<f64> = rewards.iter().enumerate().map(|(i, r)| r + if i < 4 { 16.0 } else { 0.0 }).collect();
        assert_eq!(of(&PLAIN, &moved), found, "these rewards are exact in binary");
    }

    #[test]
    fn a_group_of_equal_rewards_teaches_nothing_and_neither_does_one_that_differs_by_rounding() {
        let again = Groups { renormalise: Renormalise::Batch, ..PLAIN };
        for groups in [PLAIN, again] {
            for equal in [[0.3; 4], [21.0, 21.0 + 1e-6, 21.0 - 1e-6, 21.0], [0.0; 4]] {
                let rewards = [&equal[..], &[1.0, 2.0, 3.0, 5.0]].concat();
                let found = advantages(&groups, 4, &[rewards], &[1.0]);
                assert_eq!(found[..4], [None; 4]);
                assert!(found[4..].iter().all(Option::is_some), "{found:?}");
            }
        }
    }
}
