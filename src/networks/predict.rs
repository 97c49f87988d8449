//! Predictions of policy and reference.

use super::machine::Machine;
use super::noised::{Noised, Space};
use super::policy::Policy;
use super::reference::{Measured, Moved, Reference};
use super::weights::Swapped;
use crate::data::batches::Batch;
use anyhow::{Context, Result};
use pipelines::families::Denoiser;
use pipelines::models::AdapterSet;
use pipelines::sampling::{Guidance, both_sides};
use pipelines::{Conditioning, Levels, Process};
use tch::{Kind, Tensor};

/// The networks of a run.
pub struct Networks {
    pub machine: Machine,
    pub policy: Policy,
    /// The start model; `None` in a full fine-tune without comparison.
    pub start: Option<Box<dyn Reference>>,
    /// The moving copy; `None`: the reference is the start model.
    pub moved: Option<Moved>,
}

/// The predicting network.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Model {
    Policy,
    Start,
}

impl Networks {
    /// Noises the rows of a batch.
    pub fn noise(&self, batch: &Batch) -> Noised {
        let Batch { latents, noise, levels, conditioning, .. } = batch;
        Noised::new(&self.policy.denoiser, self.machine, latents, noise, levels, conditioning)
    }

    /// Prediction of the policy minus target, `[R, C, h, w]`, type of the master weights, with its graph if recorded.
    ///
    /// # Errors
    /// Errors of the network.
    pub fn residuals(&self, noised: &Noised) -> Result<Tensor> {
        noised.residuals(&self.policy.denoiser, self.policy.adapters)
    }

    /// The current reference; `None` without one.
    pub fn reference(&self) -> Option<&dyn Reference> {
        match &self.moved {
            Some(moved) if moved.state.copied => Some(moved.network.as_ref()),
            _ => self.start.as_deref(),
        }
    }

    /// Errors of the current reference; `None` without one. `residuals`: whether to include them.
    ///
    /// # Errors
    /// Errors of the network.
    pub fn reference_errors(&self, batch: &Batch, noised: &Noised, residuals: bool) -> Result<Option<Measured>> {
        self.reference().map(|reference| reference.errors(&self.policy, batch, noised, residuals)).transpose()
    }

    /// Errors of the start model; `None` if it is not kept.
    ///
    /// # Errors
    /// Errors of the network.
    pub fn start_errors(&self, batch: &Batch, noised: &Noised, residuals: bool) -> Result<Option<Measured>> {
        self.start.as_ref().map(|start| start.errors(&self.policy, batch, noised, residuals)).transpose()
    }

    /// Errors of the start model on a held-out item with all its draws; `None` if it is not kept.
    ///
    /// # Errors
    /// Errors of the network.
    pub fn held_out_errors(&self, batch: &Batch, noised: &Noised, residuals: bool) -> Result<Option<Measured>> {
        let measured = |start: &dyn Reference| start.held_out_errors(&self.policy, batch, noised, residuals);
        self.start.as_deref().map(measured).transpose()
    }

    /// The noise process of the model.
    pub fn process(&self) -> &dyn Process {
        &*self.policy.denoiser.process
    }

    /// `[R]`, master kind: squared residuals x this = squared errors of the noise.
    pub fn epsilon_factor(&self, noised: &Noised) -> Tensor {
        match noised.space {
            Space::Epsilon => Tensor::ones([noised.levels.rows()], (self.machine.master, self.machine.device)),
            Space::Native => self.policy.denoiser.process.error_factor(&noised.levels).to_kind(self.machine.master),
        }
    }

    /// Conditioning `[P]` on the run's device in the compute type, for square pictures of `resolution` pixels.
    pub fn conditioning(&self, conditioning: &Conditioning, resolution: i64) -> Conditioning {
        let placed = conditioning.to(self.machine.device, self.machine.compute);
        self.policy.denoiser.with_size(placed, resolution, resolution)
    }

    /// The guided prediction, `[B, C, h, w]` float64, of latents `[B, C, h, w]` at `levels` `[B]`; that of the policy
    /// with its graph if recorded. `sides`: conditioning of the prompts and of the negative side, `[B]` each.
    ///
    /// # Errors
    /// A start model that is not kept; errors of the network.
    pub fn guided(
        &self,
        model: Model,
        latents: &Tensor,
        levels: &Levels,
        sides: [&Conditioning; 2],
        guidance: Guidance,
    ) -> Result<Tensor> {
        let _frozen = (model == Model::Start).then(tch::no_grad_guard);
        let (denoiser, adapters) = self.network(model)?;
        let latents = latents.to_kind(self.machine.compute);
        let predict = |x: &Tensor, t: &Levels, told: &Conditioning| -> Result<Tensor> {
            Ok(denoiser.predict(x, t, told, adapters)?.to_kind(Kind::Double))
        };
        let [positive, negative] = sides;
        if guidance.is_off() {
            return predict(&latents, levels, positive);
        }
        let [negative, positive] = both_sides(&predict, &latents, levels, negative, positive)?;
        Ok(guidance.combine(&negative, &positive).guided)
    }

    fn network(&self, model: Model) -> Result<(&Denoiser, Option<AdapterSet>)> {
        match model {
            Model::Policy => Ok((&self.policy.denoiser, self.policy.adapters)),
            Model::Start => self
                .start
                .as_ref()
                .and_then(|start| start.network(&self.policy))
                .context("the start model is not available to compare samples with"),
        }
    }

    /// The network with the weights of its files and without adapters, if one is left.
    pub fn into_base(self) -> Option<Denoiser> {
        let mut denoiser = match self.policy.lora {
            Some(_) => Some(self.policy.denoiser),
            None => self.start.and_then(|start| start.into_network()),
        };
        if let Some(denoiser) = &mut denoiser {
            denoiser.network.take_off_adapters();
        }
        denoiser
    }

    /// The policy with other values of its trained tensors until the guard is dropped; `None`: with its own.
    pub fn under<'a>(&'a self, values: Option<&[(String, Tensor)]>) -> Option<Swapped<'a>> {
        values.map(|values| Swapped::new(&self.policy.trainable, values))
    }
}
