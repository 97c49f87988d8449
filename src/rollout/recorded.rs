//! Record of a call: source, destination, and log-probabilities (docs/methods.md, section 10).

use super::asked::{Asked, At};
use super::grid::Trajectory;
use super::kept::{Keeping, Kept};
use crate::objectives::{Other, Rollouts, StepRatio, numbers};
use anyhow::Result;
use pipelines::schedulers::{Transitions, log_prob};
use tch::{Kind, Tensor};

/// Values of a transition that a loss reads besides its ends.
#[derive(Debug, Clone, Copy)]
pub struct Rule {
    /// The policy whose probability is kept.
    pub other: Other,
    /// The start model's prediction is kept too.
    pub drift: bool,
    /// The mean of the step as sampled is kept too.
    pub mean: bool,
}

impl Rule {
    /// The rule for the loss of a method.
    pub fn of(needs: &Rollouts) -> Self {
        Self { other: needs.other, drift: needs.drift.is_some(), mean: needs.ratio == StepRatio::Normed }
    }

    /// Rows of latents kept per transition besides its ends.
    pub fn rows(&self) -> u64 {
        u64::from(self.drift) + u64::from(self.mean)
    }
}

/// Rows of a call whose destinations training reads.
pub struct Ends<'a> {
    /// The whole batch: its states, and the policy's distribution.
    pub at: &'a At<'a>,
    pub step: &'a Transitions,
    pub trajectories: &'a [Trajectory],
    /// Rows of the batch.
    pub rows: &'a [usize],
    /// Destinations of each row, `[rows, C, h, w]` float32; several with candidates.
    pub ends: &'a [Tensor],
    /// The trajectory continues from its only end.
    pub goes_on: bool,
}

impl Ends<'_> {
    /// Stores the transitions. Returns their indices: row by row, end by end.
    ///
    /// # Errors
    /// A required start model that is absent; a failed write to disk.
    pub fn keep(&self, asked: &Asked, rule: Rule, keeping: &mut Keeping) -> Result<Vec<Vec<usize>>> {
        let index: Vec<i64> = self.rows.iter().map(|row| *row as i64).collect();
        let index = Tensor::from_slice(&index).to_device(asked.networks.machine.device);
        let own = |t: &Tensor| t.index_select(0, &index);
        let calls: Vec<usize> = self.rows.iter().map(|row| self.at.calls[*row]).collect();
        let prompts: Vec<usize> = self.rows.iter().map(|row| self.at.prompts[*row]).collect();
        let from = own(self.at.latents);
        let at = At { latents: &from, calls: &calls, prompts: &prompts };
        let start = match rule.other == Other::Start || rule.drift {
            true => Some(asked.start(&at)?),
            false => None,
        };
        keeping.asked_start += if start.is_some() { self.rows.len() } else { 0 };
        let (mean, std) = (own(&self.step.mean), own(&self.step.std));
        let likely: Vec<Likely> =
            self.ends.iter().map(|end| Likely::of(asked, &at, (&mean, &std), &start, end)).collect();
        let mut kept = Vec::new();
        for (row, (call, prompt)) in calls.iter().zip(&prompts).enumerate() {
            let (trajectory, i) = (self.trajectories[self.rows[row]].index, row as i64);
            let from = keeping.state(trajectory, *call, &from.get(i));
            let to = self.ends.iter().map(|end| match self.goes_on {
                true => keeping.state(trajectory, call + 1, &end.get(i)),
                false => keeping.store.push(&end.get(i)),
            });
            let to: Vec<usize> = to.collect();
            let start = start.as_ref().filter(|_| rule.drift).map(|start| keeping.store.push(&start.get(i)));
            let mean = rule.mean.then(|| keeping.store.push(&mean.get(i)));
            let ends = likely.iter().zip(to).map(|(likely, to)| {
                let log_prob = likely.under(rule.other, row);
                keeping.drift.extend(likely.drift(row));
                keeping.add(Kept { prompt: *prompt, call: *call, from, to, log_prob, start, mean })
            });
            kept.push(ends.collect());
        }
        Ok(kept)
    }
}

/// log p of one end of every row, under the policy as it sampled and under the start model if evaluated.
struct Likely {
    policy: Vec<f64>,
    start: Option<Vec<f64>>,
}

impl Likely {
    fn of(asked: &Asked, at: &At, (mean, std): (&Tensor, &Tensor), start: &Option<Tensor>, end: &Tensor) -> Self {
        Self {
            policy: numbers(&log_prob(mean, std, &end.to_kind(Kind::Double))),
            start: start.as_ref().map(|start| numbers(&asked.log_prob(at, start, end))),
        }
    }

    fn under(&self, other: Other, row: usize) -> f64 {
        match (other, &self.start) {
            (Other::Start, Some(start)) => start[row],
            (Other::Start, None) | (Other::Sampler, _) => self.policy[row],
        }
    }

    /// log p under the policy minus log p under the start model.
    fn drift(&self, row: usize) -> Option<f64> {
        self.start.as_ref().map(|start| self.policy[row] - start[row])
    }
}
