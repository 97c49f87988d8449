//! The transformer block that both towers of CLIP share.

use crate::error::Result;
use crate::models::config::ConfigFile;
use crate::models::layers::{AdapterSet, Adapters, LayerNorm, Linear, attend};
use crate::weights::Loader;
use tch::Tensor;

/// The activation between the two layers of the MLP.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Activation {
    /// `x * sigmoid(1.702 x)`, as in OpenAI's CLIP
    QuickGelu,
    /// `x * Phi(x)`, as in OpenCLIP
    Gelu,
}

impl Activation {
    /// `hidden_act` of a configuration.
    pub fn read(file: &ConfigFile) -> Result<Self> {
        match file.text("hidden_act", "quick_gelu")?.as_str() {
            "quick_gelu" => Ok(Self::QuickGelu),
            "gelu" => Ok(Self::Gelu),
            _ => Err(file.conflict("hidden_act", "quick_gelu or gelu: nothing else is implemented")),
        }
    }

    /// Elementwise, of any shape.
    fn forward(self, x: &Tensor) -> Tensor {
        match self {
            Self::QuickGelu => x * (x * 1.702).sigmoid(),
            Self::Gelu => x.gelu("none"),
        }
    }
}

/// Shape of a tower's blocks.
#[derive(Debug, Clone, Copy)]
pub struct BlockShape {
    pub width: i64,
    /// Width between the two layers of the MLP.
    pub wide: i64,
    pub heads: i64,
    pub activation: Activation,
    pub eps: f64,
}

/// Whether a position attends to those after it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Attention {
    /// Each position attends to itself and earlier ones.
    Causal,
    Full,
}

/// Pre-norm attention and MLP, each added to its input.
#[derive(Debug)]
pub(super) struct Block {
    shape: BlockShape,
    attention: Attention,
    layer_norm1: LayerNorm,
    q_proj: Linear,
    k_proj: Linear,
    v_proj: Linear,
    out_proj: Linear,
    layer_norm2: LayerNorm,
    fc1: Linear,
    fc2: Linear,
}

impl Block {
    pub(super) fn load(from: &Loader, shape: BlockShape, attention: Attention) -> Self {
        let BlockShape { width, wide, eps, .. } = shape;
        let project = |name: &str| Linear::load(&from.sub("self_attn").sub(name), width, width, true);
        Self {
            shape,
            attention,
            layer_norm1: LayerNorm::load(&from.sub("layer_norm1"), width, eps),
            q_proj: project("q_proj"),
            k_proj: project("k_proj"),
            v_proj: project("v_proj"),
            out_proj: project("out_proj"),
            layer_norm2: LayerNorm::load(&from.sub("layer_norm2"), width, eps),
            fc1: Linear::load(&from.sub("mlp.fc1"), width, wide, true),
            fc2: Linear::load(&from.sub("mlp.fc2"), wide, width, true),
        }
    }

    /// `[B, L, D] -> [B, L, D]`.
    pub(super) fn forward(&self, x: &Tensor, adapters: Option<AdapterSet>) -> Tensor {
        let normed = self.layer_norm1.forward(x);
        let project = |linear: &Linear| linear.forward(&normed, adapters);
        let (q, k, v) = (project(&self.q_proj), project(&self.k_proj), project(&self.v_proj));
        let h = attend(&q, &k, &v, self.shape.heads, self.attention == Attention::Causal);
        let x = x + self.out_proj.forward(&h, adapters);
        let h = self.fc1.forward(&self.layer_norm2.forward(&x), adapters);
        let h = self.shape.activation.forward(&h);
        x + self.fc2.forward(&h, adapters)
    }

    /// Visits the layers that take a LoRA.
    pub(super) fn adapters_mut(&mut self, visit: &mut dyn FnMut(&mut Adapters)) {
        let attention = [&mut self.q_proj, &mut self.k_proj, &mut self.v_proj, &mut self.out_proj];
        for linear in attention.into_iter().chain([&mut self.fc1, &mut self.fc2]) {
            visit(&mut linear.adapters);
        }
    }
}
