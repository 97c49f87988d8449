//! A network together with its noise process.

use crate::conditioning::{Conditioning, TIME_IDS};
use crate::error::Result;
use crate::levels::Levels;
use crate::models::AdapterSet;
use crate::network::Network;
use crate::process::Process;
use tch::Tensor;

/// A model for trainer, sampler and inversion.
#[derive(Debug)]
pub struct Denoiser {
    pub network: Box<dyn Network>,
    pub process: Box<dyn Process>,
}

impl Denoiser {
    /// The network's prediction in its own parameterisation: `latents` `[B, C, h, w]`, `levels` `[B]`.
    pub fn predict(
        &self,
        latents: &Tensor,
        levels: &Levels,
        conditioning: &Conditioning,
        adapters: Option<AdapterSet>,
    ) -> Result<Tensor> {
        self.network.predict(latents, levels, conditioning, adapters)
    }

    /// The conditioning of pictures sampled from noise. A network with size inputs gets `height` and `width` in
    /// pixels as original and target size, without crop.
    pub fn with_size(&self, conditioning: Conditioning, height: i64, width: i64) -> Conditioning {
        if !self.network.architecture().conditioning().contains(&TIME_IDS) {
            return conditioning;
        }
        let sizes = vec![[height, width, 0, 0, height, width]; conditioning.rows() as usize];
        conditioning.with_sizes(&sizes)
    }
}
