//! What the policy is compared with: the start model, or a copy of the policy that is renewed while it does no harm
//! (docs/methods.md, section 2a).

use super::policy::{Noised, Policy};
use crate::settings::ReferenceConfig;
use anyhow::Result;
use pipelines::families::Denoiser;
use pipelines::models::AdapterSet;
use serde::{Deserialize, Serialize};
use tch::Tensor;

/// A network to compare with.
pub enum Comparison {
    /// The policy's own network with other adapters (`None`: without).
    SameNetwork(Option<AdapterSet>),
    /// A network of its own.
    Own(Box<Denoiser>),
    /// Not needed after the start: full fine-tune with a reference-free objective.
    Absent,
}

impl Comparison {
    /// The network and the adapters it wears; `None` when it is not there.
    pub fn network<'a>(&'a self, policy: &'a Policy) -> Option<(&'a Denoiser, Option<AdapterSet>)> {
        match self {
            Comparison::SameNetwork(adapters) => Some((&policy.denoiser, *adapters)),
            Comparison::Own(denoiser) => Some((denoiser, None)),
            Comparison::Absent => None,
        }
    }

    /// Residuals, `[R, C, h, w]`, without tracking gradients; `None` when the network is not there.
    pub fn residuals(&self, policy: &Policy, batch: &Noised) -> Result<Option<Tensor>> {
        let _frozen = tch::no_grad_guard();
        let residuals = |(denoiser, adapters)| batch.residuals(denoiser, adapters);
        self.network(policy).map(residuals).transpose()
    }
}

/// The reference of a run.
pub struct Reference {
    /// The start model.
    pub start: Comparison,
    /// The copy that is renewed; `None`: the reference is the start model.
    pub moving: Option<Moving>,
}

impl Reference {
    /// Residuals of the reference in force; `None` when there is none any more.
    pub fn residuals(&self, policy: &Policy, batch: &Noised) -> Result<Option<Tensor>> {
        match &self.moving {
            Some(moving) if moving.state.copied => moving.network.residuals(policy, batch),
            _ => self.start.residuals(policy, batch),
        }
    }

    /// Whether step `s` ends with a look at how far the reference has moved.
    pub fn measures(&self, s: u64) -> bool {
        self.moving.as_ref().is_some_and(|m| m.due(s) && m.state.copied)
    }
}

/// A reference that is renewed every so many steps until it has moved too far.
pub struct Moving {
    /// tau
    pub every: u64,
    /// delta: the mean error that the reference may have gained over the start model.
    pub limit: f64,
    /// rho, the smoothing of the divergence.
    pub ema: f64,
    pub network: Comparison,
    /// The tensors of `network` that a copy fills, in the order of the policy's trained ones.
    pub tensors: Vec<(String, Tensor)>,
    pub state: MovingState,
}

/// What a checkpoint keeps of it, beside the tensors.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct MovingState {
    pub copied: bool,
    pub frozen: bool,
    /// S and k.
    sum: f64,
    looks: u64,
}

/// What a step did to the reference.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Renewal {
    /// D and its smoothed value.
    pub divergence: Option<(f64, f64)>,
    pub copied: bool,
    /// It was frozen in this step.
    pub frozen: bool,
}

impl MovingState {
    /// Takes in D_k and returns the bias-corrected running mean.
    fn look(&mut self, ema: f64, divergence: f64) -> f64 {
        self.looks += 1;
        self.sum = ema * self.sum + (1.0 - ema) * divergence;
        self.sum / (1.0 - ema.powf(self.looks as f64))
    }
}

impl Moving {
    /// `tensors` are those of `network` that a copy fills, by the names of the trained ones.
    pub fn new(config: &ReferenceConfig, network: Comparison, tensors: Vec<(String, Tensor)>) -> Self {
        Self {
            every: config.every,
            limit: config.divergence_limit,
            ema: config.divergence_ema,
            network,
            tensors,
            state: MovingState::default(),
        }
    }

    fn due(&self, s: u64) -> bool {
        !self.state.frozen && s.is_multiple_of(self.every)
    }

    /// The end of step `s`: `divergence` is the mean of e_ref - e_start over its winners, where it was measured.
    pub fn end_of_step(&mut self, s: u64, divergence: Option<f64>, trained: &[(String, Tensor)]) -> Renewal {
        if !self.due(s) {
            return Renewal::default();
        }
        let mut renewal = Renewal::default();
        if self.state.copied {
            // A step without a preferred image says nothing: no copy without a look.
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
    use super::*;

    fn run(ema: f64) -> (Vec<f64>, Vec<u64>, Option<u64>) {
        let (limit, every) = (0.005, 10);
        let tensors = vec![("w".to_string(), Tensor::from_slice(&[0f64]))];
        let mut moving =
            Moving { every, limit, ema, network: Comparison::Absent, tensors, state: MovingState::default() };
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
