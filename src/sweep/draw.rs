//! Drawn points: the unit cube by independent draws, or by a Sobol sequence.

use crate::data::draws;

/// A source of points of the unit cube.
#[derive(Debug, Clone, Copy)]
pub enum Draw {
    Random { seed: u64 },
    Sobol { seed: u32 },
}

impl Draw {
    /// The Sobol sequence for so many axes.
    ///
    /// # Errors
    /// More axes than the table of direction numbers has.
    pub fn sobol(seed: u64, axes: usize) -> Result<Self, String> {
        let most = sobol_burley::NUM_DIMENSIONS as usize;
        if axes > most {
            return Err(format!(
                "strategy = \"sobol\" has {most} dimensions, and there are {axes} axes. Set strategy = \"random\"."
            ));
        }
        Ok(Self::Sobol { seed: (draws::key(seed, "sobol", &[]) & u64::from(u32::MAX)) as u32 })
    }

    /// Coordinate `axis` of point `number`, in [0, 1). Random draws are streams of method, point and axis.
    pub fn at(self, method: &str, number: usize, axis: usize) -> f64 {
        match self {
            Self::Random { seed } => draws::key(seed, "sweep", &[&method, &number, &axis]) as f64 / 2f64.powi(63),
            Self::Sobol { seed } => f64::from(sobol_burley::sample(number as u32, axis as u32, seed)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sobol_sequence_has_one_point_in_every_sixteenth_and_is_the_same_each_time() {
        let draw = Draw::sobol(3, 2).unwrap();
        for axis in 0..2 {
            let mut parts: Vec<usize> = (0..16).map(|n| (draw.at("", n, axis) * 16.0) as usize).collect();
            parts.sort_unstable();
            assert_eq!(parts, (0..16).collect::<Vec<_>>());
        }
        assert_eq!(draw.at("", 5, 1), Draw::sobol(3, 2).unwrap().at("", 5, 1));
        assert_ne!(draw.at("", 5, 1), Draw::sobol(4, 2).unwrap().at("", 5, 1));
    }

    #[test]
    fn more_axes_than_direction_numbers_are_refused() {
        assert!(
            Draw::sobol(0, 257).unwrap_err().starts_with("strategy = \"sobol\" has 256 dimensions, and there are 257")
        );
    }

    #[test]
    fn random_draws_are_uniform_streams() {
        let draw = Draw::Random { seed: 0 };
        let mean = (0..400).map(|n| draw.at("dpo", n, 0)).sum::<f64>() / 400.0;
        assert!((mean - 0.5).abs() < 0.05, "{mean}");
        assert_ne!(draw.at("dpo", 0, 0), draw.at("dpo", 0, 1));
    }
}
