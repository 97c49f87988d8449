//! Timestep laws: the distribution of noise levels in training.

use pipelines::LevelRange;

/// `[timesteps] law` with its keys, in the unit of the model's noise process. Every level is in the range of the process if
/// `min`, `max` and the values are.
#[derive(Debug, Clone, PartialEq)]
pub enum TimestepLaw {
    /// Uniform over `min..=max`.
    Uniform { min: f64, max: f64 },
    /// Uniform over the entries; a repeated entry is drawn more often. Not empty.
    List(Vec<f64>),
    /// `n_bins` equal bins of `min..=max`, the noisiest first. Bin b has the weight gamma^b, and all levels of a
    /// bin are equally likely (docs/methods.md, section 2b). gamma in (0, 1], `n_bins` at least 1.
    Discounted { gamma: f64, n_bins: i64, min: f64, max: f64 },
}

impl TimestepLaw {
    /// Uniform over the whole range of a process.
    pub fn all(range: LevelRange) -> Self {
        Self::Uniform { min: 0.0, max: range.last() }
    }

    /// The level where the distribution function reaches `u` in `[0, 1)`.
    pub fn at(&self, u: f64, range: LevelRange) -> f64 {
        match self {
            Self::Uniform { min, max } => range.between(*min, *max, u),
            Self::List(values) => values.get((u * values.len() as f64).floor() as usize).copied().unwrap_or_default(),
            Self::Discounted { gamma, n_bins, min, max } => range.below(*min, *max, depth(u, *gamma, *n_bins), *n_bins),
        }
    }
}

/// b + r: the bin of `u` and the position inside it.
fn depth(u: f64, gamma: f64, n_bins: i64) -> f64 {
    // F_b, the share of the bins before b. powf, not powi: Python's ** gives the same bits.
    let share = |b: i64| match gamma == 1.0 {
        true => b as f64 / n_bins as f64,
        false => (1.0 - gamma.powf(b as f64)) / (1.0 - gamma.powf(n_bins as f64)),
    };
    let part = (0..n_bins).find(|b| u < share(b + 1)).unwrap_or(n_bins - 1);
    let (low, high) = (share(part), share(part + 1));
    part as f64 + (u - low) / (high - low)
}

#[cfg(test)]
mod tests {
    use super::*;

    const RANGE: LevelRange = LevelRange::Steps(1000);

    #[test]
    fn the_discounted_law_gives_the_timesteps_of_the_fixtures() {
        // docs/methods.md 21.7
        let law = |n_bins| TimestepLaw::Discounted { gamma: 0.9, n_bins, min: 0.0, max: 999.0 };
        let rows = [(0.0, 999.0), (0.125, 974.0), (0.5, 869.0), (0.625, 815.0), (0.875, 611.0), (0.96875, 369.0)];
        for (u, t) in rows.into_iter().chain([(0.9990234375, 32.0)]) {
            assert_eq!(law(50).at(u, RANGE), t, "{u}");
        }
        assert_eq!(law(10).at(0.5, RANGE), 625.0);
        let rests = [(0.125, 50, 1.270620), (0.5, 50, 6.543129), (0.5, 10, 3.749805), (0.9990234375, 50, 48.373083)];
        for (u, n_bins, expected) in rests {
            assert!((depth(u, 0.9, n_bins) - expected).abs() < 1e-6);
        }
    }

    #[test]
    fn the_bins_of_the_discounted_law_have_the_published_shares() {
        let law = TimestepLaw::Discounted { gamma: 0.9, n_bins: 50, min: 0.0, max: 999.0 };
        let n = 1_000_000;
        let (mut first, mut last, mut sum) = (0, 0, 0.0);
        for i in 0..n {
            let t = law.at((i as f64 + 0.5) / n as f64, RANGE);
            (first, last, sum) = (first + i32::from(t >= 980.0), last + i32::from(t < 20.0), sum + t);
        }
        let share = |count: i32| f64::from(count) / n as f64;
        assert!((share(first) - 0.100518).abs() < 2e-6 && (share(last) - 0.000576).abs() < 2e-6);
        assert!((sum / n as f64 - 814.7).abs() < 0.06);
    }

    #[test]
    fn no_law_leaves_its_range_at_the_ends_of_the_unit_interval() {
        let end = 1.0 - f64::EPSILON / 2.0;
        let mut laws = vec![TimestepLaw::Uniform { min: 3.0, max: 7.0 }, TimestepLaw::List(vec![7.0, 3.0])];
        for (gamma, n_bins) in [(0.9, 50), (1.0, 7), (1.0, 1), (0.5, 1000), (1e-300, 3)] {
            laws.push(TimestepLaw::Discounted { gamma, n_bins, min: 3.0, max: 7.0 });
        }
        for law in laws {
            for u in [0.0, 0.3, 0.7, end] {
                assert!((3.0..=7.0).contains(&law.at(u, RANGE)), "{law:?} {u} {}", law.at(u, RANGE));
            }
        }
        assert_eq!(TimestepLaw::Uniform { min: 3.0, max: 7.0 }.at(end, RANGE), 7.0);
        assert_eq!(TimestepLaw::Discounted { gamma: 1.0, n_bins: 2, min: 3.0, max: 7.0 }.at(end, RANGE), 3.0);
    }

    #[test]
    fn a_gamma_of_one_is_the_uniform_law_read_backwards() {
        let flat = TimestepLaw::Discounted { gamma: 1.0, n_bins: 10, min: 100.0, max: 199.0 };
        for i in 0..100 {
            assert_eq!(flat.at((f64::from(i) + 0.5) / 100.0, RANGE), f64::from(199 - i));
        }
    }
}
