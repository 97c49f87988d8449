//! A micro-batch of units: states and transitions, each state once.

use super::asked::{Asked, At, Guided};
use super::kept::{Kept, KeptUnit, Store};
use crate::objectives::Unit;
use anyhow::Result;
use std::collections::HashMap;
use tch::Tensor;

/// Units with the inputs of the network. F states, M transitions.
pub struct UnitBatch<'a> {
    pub units: Vec<Unit>,
    /// `[F, C, h, w]` float32, on the CPU
    pub latents: Tensor,
    pub calls: Vec<usize>,
    pub prompts: Vec<usize>,
    /// State of each transition, `M`.
    pub states: Vec<i64>,
    /// `[M, C, h, w]`
    pub next: Tensor,
    /// log p_other, `M`.
    pub log_prob: Vec<f64>,
    /// The start model's guided predictions, `[M, C, h, w]`.
    pub start: Option<Tensor>,
    /// mu_old, `[M, C, h, w]`.
    pub mean: Option<Tensor>,
    pub sampling: Guided<'a>,
}

impl<'a> UnitBatch<'a> {
    /// The micro-batch of some kept units.
    ///
    /// # Errors
    /// A damaged file of the buffer.
    pub fn new(units: &[&KeptUnit], kept: &[Kept], store: &Store, sampling: Guided<'a>) -> Result<Self> {
        let mut transitions: Vec<usize> = Vec::new();
        let mut rows: HashMap<usize, i64> = HashMap::new();
        for transition in units.iter().flat_map(|unit| unit.members.iter().flatten()) {
            rows.entry(*transition).or_insert_with(|| {
                transitions.push(*transition);
                transitions.len() as i64 - 1
            });
        }
        let kept: Vec<&Kept> = transitions.iter().map(|transition| &kept[*transition]).collect();
        let mut from: Vec<&Kept> = Vec::new();
        let mut states: HashMap<usize, i64> = HashMap::new();
        let state_of = kept.iter().map(|transition| {
            *states.entry(transition.from).or_insert_with(|| {
                from.push(transition);
                from.len() as i64 - 1
            })
        });
        let state_of: Vec<i64> = state_of.collect();
        let stacked = |rows: Vec<usize>| -> Result<Tensor> {
            let rows: Result<Vec<Tensor>> = rows.into_iter().map(|row| store.row(row)).collect();
            Ok(Tensor::f_stack(&rows?, 0)?)
        };
        let start: Option<Vec<usize>> = kept.iter().map(|transition| transition.start).collect();
        let mean: Option<Vec<usize>> = kept.iter().map(|transition| transition.mean).collect();
        Ok(Self {
            units: units.iter().map(|unit| unit.as_seen(&rows)).collect(),
            latents: stacked(from.iter().map(|state| state.from).collect())?,
            calls: from.iter().map(|state| state.call).collect(),
            prompts: from.iter().map(|state| state.prompt).collect(),
            states: state_of,
            next: stacked(kept.iter().map(|transition| transition.to).collect())?,
            log_prob: kept.iter().map(|transition| transition.log_prob).collect(),
            start: start.map(stacked).transpose()?,
            mean: mean.map(stacked).transpose()?,
            sampling,
        })
    }

    /// Its states on the run's device.
    pub fn at<'b>(&'b self, latents: &'b Tensor) -> At<'b> {
        At { latents, calls: &self.calls, prompts: &self.prompts }
    }

    /// Means of the steps that guided predictions `[M, C, h, w]` float64 lead to, one per transition. `latents`: its
    /// states, on the run's device.
    pub fn means(&self, asked: &Asked, latents: &Tensor, noise_pred: &Tensor) -> Tensor {
        let of_state = |values: &[usize]| -> Vec<usize> { self.states.iter().map(|s| values[*s as usize]).collect() };
        let states = Tensor::from_slice(&self.states).to_device(latents.device());
        let from = latents.index_select(0, &states);
        let at = At { latents: &from, calls: &of_state(&self.calls), prompts: &of_state(&self.prompts) };
        asked.transitions(&at, noise_pred).mean
    }

    /// The level of the first transition of a unit.
    pub fn level(&self, unit: &Unit) -> f64 {
        let row = unit.members.first().and_then(|member| member.first()).copied().unwrap_or(0);
        let call = self.calls[self.states[row as usize] as usize];
        self.sampling.sampler.timesteps()[call]
    }
}
