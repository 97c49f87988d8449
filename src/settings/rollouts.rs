//! Combinations of [rollout] and [reward] that a method that samples refuses.

use super::combinations::Combination;
use super::tables::reference::ReferenceKind;
use super::tables::rollout::Trajectories;
use crate::keys::Result;
use crate::objectives::Rollouts;
use crate::scorers::Shaping;

impl Combination<'_> {
    /// Refuses what a method that samples cannot be trained with.
    pub(super) fn rollouts(&self) -> Result<()> {
        let Some(rollouts) = self.parsed.method.needs.rollouts else { return Ok(()) };
        let Some(sampled) = self.parsed.rollout.as_ref().map(|keys| keys.trajectories(&rollouts)) else {
            return Ok(());
        };
        self.trajectories(&rollouts, &sampled)?;
        self.steps_of_trajectories(&rollouts, &sampled)?;
        self.frozen_reference()
    }

    fn trajectories(&self, rollouts: &Rollouts, sampled: &Trajectories) -> Result<()> {
        let (name, trajectories) = (self.name(), sampled.trajectories);
        let rules = rollouts.units.rules();
        if let Some(exact) = rules.exactly.filter(|exact| trajectories != *exact as usize) {
            return self.refuse(
                "rollout",
                "trajectories",
                format!("rollout.trajectories = {trajectories}: method.name = \"{name}\" is defined for exactly {exact} of a prompt. Remove the key."),
            );
        }
        if rules.at_least > trajectories {
            return self.refuse(
                "rollout",
                "trajectories",
                format!("rollout.trajectories = {trajectories}: method.name = \"{name}\" compares the pictures of a prompt among themselves and takes at least {}. Sample more.", rules.at_least),
            );
        }
        if rules.step_by_step && sampled.shared_noise == Some(false) {
            return self.refuse(
                "rollout",
                "shared_noise",
                format!("rollout.shared_noise = false: method.name = \"{name}\" compares steps of two trajectories from one noise. Remove the key."),
            );
        }
        let wanted = rules.reads;
        if wanted > trajectories {
            return self.refuse(
                "method",
                "trajectories_per_loss",
                format!("method.trajectories_per_loss = {wanted}: expected at most rollout.trajectories = {trajectories}. Lower it, or sample more."),
            );
        }
        let shaping = self.parsed.reward.as_ref().map_or(Shaping::None, |reward| reward.shaping);
        if trajectories == 1 && shaping != Shaping::None && !rules.of_candidates {
            return self.refuse(
                "reward",
                "shaping",
                format!("reward.shaping = \"{shaping}\" with rollout.trajectories = 1: a picture is compared with the others of its prompt, so every reward would be the same. Set rollout.trajectories to 2 or more, or reward.shaping = \"none\"."),
            );
        }
        let judged = self.parsed.reward.as_ref().is_some_and(|reward| !reward.pairwise.is_empty());
        if judged && (trajectories == 1 || rules.of_candidates) {
            return self.refuse(
                "reward",
                "pairwise",
                format!("reward.pairwise does not go with method.name = \"{name}\" and rollout.trajectories = {trajectories}: it compares the finished pictures of a prompt. Take a method that samples several, grpo for example, or reward.scorers alone."),
            );
        }
        Ok(())
    }

    fn steps_of_trajectories(&self, rollouts: &Rollouts, sampled: &Trajectories) -> Result<()> {
        if sampled.eta == 0.0 {
            return self.refuse(
                "rollout",
                "eta",
                format!("rollout.eta = 0 does not go with method.name = \"{}\", which trains the probabilities of steps: without noise (sigma = 0) a step has none. Set rollout.eta = 1, or another number in (0, 1].", self.name()),
            );
        }
        let rules = rollouts.units.rules();
        if sampled.eta < rules.lowest_eta {
            return self.refuse(
                "rollout",
                "eta",
                format!("rollout.eta = {}: method.name = \"{}\" takes {} to 1. With less noise the ratios of likelihoods explode.", sampled.eta, self.name(), rules.lowest_eta),
            );
        }
        let steps = sampled.steps;
        if rules.skipped_last as i64 >= steps {
            return self.refuse(
                "method",
                "skip_last",
                format!("method.skip_last = {} with rollout.steps = {steps}: no step is left to train on. Lower method.skip_last below rollout.steps.", rules.skipped_last),
            );
        }
        match rules.skipped {
            skipped if skipped > 0 && skipped as i64 >= steps => self.refuse(
                "method",
                "skip_steps",
                format!("method.skip_steps = {skipped} with rollout.steps = {steps}: no step is left to train on. Lower method.skip_steps below rollout.steps."),
            ),
            _ => Ok(()),
        }
    }

    /// Probabilities are compared with the start model's, or with those of sampling.
    fn frozen_reference(&self) -> Result<()> {
        if self.parsed.reference.as_ref().is_none_or(|reference| reference.kind == ReferenceKind::Frozen) {
            return Ok(());
        }
        self.refuse(
            "reference",
            "kind",
            format!("reference.kind = \"updated\" does not go with method.name = \"{}\", whose reference is the start model. Remove the key.", self.name()),
        )
    }
}
