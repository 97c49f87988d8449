//! Time, and for SDXL also pooled text and picture sizes, as one vector per sample.

use super::config::UNetConfig;
use crate::conditioning::{Conditioning, POOLED_PROMPT_EMBEDS, TIME_IDS};
use crate::models::layers::{AdapterSet, Adapters, Linear};
use crate::weights::Loader;
use tch::{Kind, Tensor};

/// linear, silu, linear.
#[derive(Debug)]
struct Mlp {
    linear_1: Linear,
    linear_2: Linear,
}

impl Mlp {
    fn load(from: &Loader, input: i64, output: i64) -> Self {
        Self {
            linear_1: Linear::load(&from.sub("linear_1"), input, output, true),
            linear_2: Linear::load(&from.sub("linear_2"), output, output, true),
        }
    }

    fn forward(&self, x: &Tensor, adapters: Option<AdapterSet>) -> Tensor {
        self.linear_2.forward(&self.linear_1.forward(x, adapters).silu(), adapters)
    }
}

/// `time_embedding` and `add_embedding`.
#[derive(Debug)]
pub struct Embedding {
    time: Mlp,
    added: Option<(Mlp, i64)>,
    width: i64,
    flip_sin_to_cos: bool,
    freq_shift: f64,
}

impl Embedding {
    pub fn load(from: &Loader, config: &UNetConfig) -> Self {
        let input = config.time_width() / 4;
        let added = config
            .text_time
            .map(|t| (Mlp::load(&from.sub("add_embedding"), t.input_width, config.time_width()), t.time_width));
        Self {
            time: Mlp::load(&from.sub("time_embedding"), input, config.time_width()),
            added,
            width: input,
            flip_sin_to_cos: config.flip_sin_to_cos,
            freq_shift: config.freq_shift,
        }
    }

    /// `timesteps: [B] -> [B, time_width]` in `kind`.
    pub fn forward(
        &self,
        timesteps: &Tensor,
        conditioning: &Conditioning,
        kind: Kind,
        adapters: Option<AdapterSet>,
    ) -> Tensor {
        let time = self.time.forward(&self.sinusoids(timesteps, self.width).to_kind(kind), adapters);
        let (Some((mlp, width)), Some(pooled), Some(time_ids)) =
            (&self.added, conditioning.get(POOLED_PROMPT_EMBEDS), conditioning.get(TIME_IDS))
        else {
            return time;
        };
        let ids = self.sinusoids(&time_ids.flatten(0, -1), *width).reshape([time_ids.size()[0], -1]); // [B, 6 * width]
        let added = Tensor::cat(&[pooled.to_kind(kind), ids.to_kind(kind)], -1);
        time + mlp.forward(&added, adapters)
    }

    /// Sinusoids of "Denoising Diffusion Probabilistic Models" (arXiv 2006.11239), always in float32 as diffusers has
    /// them: `[n] -> [n, width]`.
    fn sinusoids(&self, positions: &Tensor, width: i64) -> Tensor {
        let half = width / 2;
        let steps = Tensor::arange(half, (Kind::Float, positions.device()));
        let exponent = steps * -(10_000_f64.ln()) / (half as f64 - self.freq_shift);
        let angles = positions.to_kind(Kind::Float).unsqueeze(-1) * exponent.exp().unsqueeze(0); // [n, half]
        let (sin, cos) = (angles.sin(), angles.cos());
        if self.flip_sin_to_cos { Tensor::cat(&[cos, sin], -1) } else { Tensor::cat(&[sin, cos], -1) }
    }

    pub fn adapters_mut(&mut self, visit: &mut dyn FnMut(&mut Adapters)) {
        let added = self.added.as_mut().map(|(mlp, _)| mlp);
        for mlp in std::iter::once(&mut self.time).chain(added) {
            visit(&mut mlp.linear_1.adapters);
            visit(&mut mlp.linear_2.adapters);
        }
    }
}
