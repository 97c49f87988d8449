//! Spatial transformer: self-attention over the pixels, cross-attention to the prompt (arXiv 2112.10752, section 3.3).

use crate::models::layers::{AdapterSet, Adapters, GroupNorm, LayerNorm, Linear, Weights, attend};
use crate::weights::Loader;
use tch::Tensor;

/// diffusers fixes this epsilon in its transformer, whatever `norm_eps` says.
const GROUP_NORM_EPS: f64 = 1e-6;
const LAYER_NORM_EPS: f64 = 1e-5;

/// Settings common to the transformers of one level.
#[derive(Debug, Clone, Copy)]
pub struct TransformerShape {
    pub channels: i64,
    pub heads: i64,
    pub depth: i64,
    pub cross_attention_dim: i64,
    pub groups: i64,
    pub linear_projection: bool,
}

/// `attentions.j`: norm, proj_in, blocks, proj_out, + input.
#[derive(Debug, Clone)]
pub struct Transformer {
    norm: GroupNorm,
    proj_in: Linear,
    blocks: Vec<Block>,
    proj_out: Linear,
}

impl Transformer {
    pub fn load(from: &Loader, shape: TransformerShape) -> Self {
        let channels = shape.channels;
        let project = |name: &str| match shape.linear_projection {
            true => Linear::load(&from.sub(name), channels, channels, true),
            false => Linear::load_pointwise(&from.sub(name), channels, channels, true),
        };
        let block = |k| Block::load(&from.sub(&format!("transformer_blocks.{k}")), shape);
        Self {
            norm: GroupNorm::load(&from.sub("norm"), shape.groups, channels, GROUP_NORM_EPS),
            proj_in: project("proj_in"),
            blocks: (0..shape.depth).map(block).collect(),
            proj_out: project("proj_out"),
        }
    }

    /// `x: [B, C, H, W]`, `context: [B, L, D]`, result `[B, C, H, W]`.
    ///
    /// A 1x1 convolution before flattening is the same product as a linear layer after it, so both storage forms of
    /// proj_in and proj_out run as the latter.
    pub fn forward(&self, x: &Tensor, context: &Tensor, adapters: Option<AdapterSet>) -> Tensor {
        self.forward_beside(x, x, context, adapters)
    }

    /// `forward(x)` with `beside` equal to `x`: the skip connection and the blocks' input, each by its own handle.
    pub fn forward_beside(
        &self,
        beside: &Tensor,
        x: &Tensor,
        context: &Tensor,
        adapters: Option<AdapterSet>,
    ) -> Tensor {
        let size = x.size();
        let flat = self.norm.forward(x).flatten(2, 3).transpose(1, 2).contiguous(); // [B, H * W, C]
        let mut h = self.proj_in.forward(&flat, adapters);
        for block in &self.blocks {
            h = block.forward(&h, context, adapters);
        }
        let h = self.proj_out.forward(&h, adapters); // [B, H * W, C]
        beside + h.transpose(1, 2).reshape(&size)
    }

    pub fn adapters_mut(&mut self, visit: &mut dyn FnMut(&mut Adapters)) {
        visit(&mut self.proj_in.adapters);
        visit(&mut self.proj_out.adapters);
        for block in &mut self.blocks {
            block.adapters_mut(visit);
        }
    }
}

impl Weights for Transformer {
    fn weights(&self, adapters: Option<AdapterSet>, visit: &mut dyn FnMut(&Tensor)) {
        self.norm.weights(adapters, visit);
        self.proj_in.weights(adapters, visit);
        self.proj_out.weights(adapters, visit);
        self.blocks.iter().for_each(|block| block.weights(adapters, visit));
    }
}

#[derive(Debug, Clone)]
struct Block {
    norm1: LayerNorm,
    attn1: Attention,
    norm2: LayerNorm,
    attn2: Attention,
    norm3: LayerNorm,
    ff: FeedForward,
}

impl Block {
    fn load(from: &Loader, shape: TransformerShape) -> Self {
        let (width, heads) = (shape.channels, shape.heads);
        let norm = |name: &str| LayerNorm::load(&from.sub(name), width, LAYER_NORM_EPS);
        Self {
            norm1: norm("norm1"),
            attn1: Attention::load(&from.sub("attn1"), width, width, heads),
            norm2: norm("norm2"),
            attn2: Attention::load(&from.sub("attn2"), width, shape.cross_attention_dim, heads),
            norm3: norm("norm3"),
            ff: FeedForward::load(&from.sub("ff"), width),
        }
    }

    /// `x: [B, N, C] -> [B, N, C]`.
    fn forward(&self, x: &Tensor, context: &Tensor, adapters: Option<AdapterSet>) -> Tensor {
        let normed = self.norm1.forward(x);
        let x = self.attn1.forward(&normed, &normed, adapters) + x;
        let x = self.attn2.forward(&self.norm2.forward(&x), context, adapters) + x;
        self.ff.forward(&self.norm3.forward(&x), adapters) + x
    }

    fn adapters_mut(&mut self, visit: &mut dyn FnMut(&mut Adapters)) {
        for attention in [&mut self.attn1, &mut self.attn2] {
            visit(&mut attention.to_q.adapters);
            visit(&mut attention.to_k.adapters);
            visit(&mut attention.to_v.adapters);
            visit(&mut attention.to_out.adapters);
        }
        visit(&mut self.ff.proj.adapters);
        visit(&mut self.ff.out.adapters);
    }
}

impl Weights for Block {
    fn weights(&self, adapters: Option<AdapterSet>, visit: &mut dyn FnMut(&Tensor)) {
        for norm in [&self.norm1, &self.norm2, &self.norm3] {
            norm.weights(adapters, visit);
        }
        for attention in [&self.attn1, &self.attn2] {
            for linear in [&attention.to_q, &attention.to_k, &attention.to_v, &attention.to_out] {
                linear.weights(adapters, visit);
            }
        }
        self.ff.proj.weights(adapters, visit);
        self.ff.out.weights(adapters, visit);
    }
}

#[derive(Debug, Clone)]
struct Attention {
    to_q: Linear,
    to_k: Linear,
    to_v: Linear,
    to_out: Linear,
    heads: i64,
}

impl Attention {
    fn load(from: &Loader, width: i64, context_width: i64, heads: i64) -> Self {
        Self {
            to_q: Linear::load(&from.sub("to_q"), width, width, false),
            to_k: Linear::load(&from.sub("to_k"), context_width, width, false),
            to_v: Linear::load(&from.sub("to_v"), context_width, width, false),
            to_out: Linear::load(&from.sub("to_out.0"), width, width, true),
            heads,
        }
    }

    fn forward(&self, x: &Tensor, context: &Tensor, adapters: Option<AdapterSet>) -> Tensor {
        let q = self.to_q.forward(x, adapters);
        let k = self.to_k.forward(context, adapters);
        let v = self.to_v.forward(context, adapters);
        self.to_out.forward(&attend(&q, &k, &v, self.heads, false), adapters)
    }
}

/// GEGLU (arXiv 2002.05202): value * gelu(gate), the value in the first half.
#[derive(Debug, Clone)]
struct FeedForward {
    proj: Linear,
    out: Linear,
}

impl FeedForward {
    fn load(from: &Loader, width: i64) -> Self {
        Self {
            proj: Linear::load(&from.sub("net.0.proj"), width, 8 * width, true),
            out: Linear::load(&from.sub("net.2"), 4 * width, width, true),
        }
    }

    fn forward(&self, x: &Tensor, adapters: Option<AdapterSet>) -> Tensor {
        let both = self.proj.forward(x, adapters); // [B, N, 8C]
        let half = both.size()[2] / 2;
        let (value, gate) = (both.narrow(2, 0, half), both.narrow(2, half, half));
        self.out.forward(&(value * gate.gelu("none")), adapters)
    }
}
