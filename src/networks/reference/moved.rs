//! A copy of the policy that is renewed until it has moved too far (docs/methods.md, section 2a).

use super::measured::Reference;
use crate::settings::Updates;
use serde::{Deserialize, Serialize};
use tch::Tensor;

/// A reference that is renewed at fixed intervals until it has moved too far.
pub struct Moved {
    /// tau
    pub every: u64,
    /// delta: the largest mean error gained over the start model.
    pub limit: f64,
    /// rho, the smoothing of the divergence.
    pub ema: f64,
    pub network: Box<dyn Reference>,
    /// The tensors of `network` that a copy fills, in the order of the policy's trained ones.
    pub tensors: Vec<(String, Tensor)>,
    pub state: MovedState,
}

/// Its state in a checkpoint besides the tensors.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct MovedState {
    pub copied: bool,
    pub frozen: bool,
    /// S and k.
    sum: f64,
    looks: u64,
}

/// Change of the reference in a step.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Renewal {
    /// D and its smoothed value.
    pub divergence: Option<(f64, f64)>,
    pub copied: bool,
    /// It was frozen in this step.
    pub frozen: bool,
}

impl MovedState {
    /// Adds D_k and returns the bias-corrected running mean.
    fn look(&mut self, ema: f64, divergence: f64) -> f64 {
        self.looks += 1;
        self.sum = ema * self.sum + (1.0 - ema) * divergence;
        self.sum / (1.0 - ema.powf(self.looks as f64))
    }
}

impl Moved {
    /// `tensors` are those of `network` that a copy fills, under the names of the trained ones.
    pub fn new(config: &Updates, network: Box<dyn Reference>, tensors: Vec<(String, Tensor)>) -> Self {
        Self {
            every: config.every,
            limit: config.divergence_limit,
            ema: config.divergence_ema,
            network,
            tensors,
            state: MovedState::default(),
        }
    }

    /// Whether the distance of the reference is measured at the end of step `s`.
    pub fn measures(&self, s: u64) -> bool {
        self.due(s) && self.state.copied
    }

    fn due(&self, s: u64) -> bool {
        !self.state.frozen && s.is_multiple_of(self.every)
    }

    /// End of step `s`: `divergence` is the mean of e_ref - e_start over its winners, if measured.
    pub fn end_of_step(&mut self, s: u64, divergence: Option<f64>, trained: &[(String, Tensor)]) -> Renewal {
        if !self.due(s) {
            return Renewal::default();
        }
        let mut renewal = Renewal::default();
        if self.state.copied {
            // A step without a preferred image has no measurement: no copy without one.
            let Some(divergence) = divergence else { return renewal };
            let smoothed = self.state.look(self.ema, divergence);
            renewal.divergence = Some((divergence, smoothed));
            if smoothed > self.limit {
                self.state.frozen = true;
                return Renewal { frozen: true, ..renewal };
            }
        }
        let _frozen = tch::no_grad_guard();
        for ((_, reference), (_, policy)) in self.tensors.iter().zip(trained) {
            reference.shallow_clone().copy_(policy);
        }
        self.state.copied = true;
        Renewal { copied: true, ..renewal }
    }
}

#[cfg(test)]
mod tests {
    use super::super::start_values::StartValues;
    use super::*;

    fn run(ema: f64) -> (Vec<f64>, Vec<u64>, Option<u64>) {
        let (limit, every) = (0.005, 10);
        let tensors = vec![("w".to_string(), Tensor::from_slice(&[0f64]))];
        let network = Box::new(StartValues(None));
        let mut moving = Moved { every, limit, ema, network, tensors, state: MovedState::default() };
        let divergences = [0.0010, 0.0030, 0.0045, 0.0060, 0.0080, 0.0100];
        let (mut smoothed, mut copies, mut frozen) = (Vec::new(), Vec::new(), None);
        for s in 1..=80u64 {
            let look = (s / every).checked_sub(2).and_then(|k| divergences.get(k as usize)).copied();
            let trained = [("w".to_string(), Tensor::from_slice(&[s as f64]))];
            let renewal = moving.end_of_step(s, look, &trained);
            smoothed.extend(renewal.divergence.map(|d| d.1));
            if renewal.copied {
                copies.push(s / every);
                assert_eq!(moving.tensors[0].1.double_value(&[0]), s as f64);
            }
            if renewal.frozen {
                frozen = Some(s / every);
            }
        }
        (smoothed, copies, frozen)
    }

    /// docs/methods.md 21.7
    #[test]
    fn the_reference_is_copied_until_it_has_moved_too_far() {
        let (smoothed, copies, frozen) = run(0.9);
        let expected = [0.001000, 0.002053, 0.002956, 0.003841, 0.004857, 0.005954];
        assert_eq!(smoothed.len(), expected.len());
        assert!(smoothed.iter().zip(expected).all(|(found, expected)| (found - expected).abs() < 1e-6), "{smoothed:?}");
        assert_eq!((copies, frozen), ((1..=6).collect(), Some(7)));
        let (_, copies, frozen) = run(0.0);
        assert_eq!((copies, frozen), ((1..=4).collect(), Some(5)));
    }
}
