//! The layers that the networks share. Weights are cast to the kind of the input where the two differ, so that
//! float32 masters can serve a bfloat16 forward pass.

use crate::weights::Loader;
use tch::{Kind, Tensor};

/// Names one set of LoRA adapters that is attached to a network. Networks take `Option<AdapterSet>`: `None` is the
/// network of the file alone, bit for bit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct AdapterSet(pub usize);

/// The LoRA of one linear layer: `y += scale * x A^T B^T` (arXiv 2106.09685).
#[derive(Debug)]
pub struct Adapter {
    /// `[r, in]`, or `[r, in, 1, 1]` where the layer is stored as a 1x1 convolution
    pub a: Tensor,
    /// `[out, r]`, or `[out, r, 1, 1]`
    pub b: Tensor,
    pub scale: f64,
}

/// `tensor` in the kind and on the device of a computation; the tensor itself where it is there already.
fn cast(tensor: &Tensor, kind: Kind) -> Tensor {
    if tensor.kind() == kind { tensor.shallow_clone() } else { tensor.to_kind(kind) }
}

/// A matrix out of a weight that may be stored as a 1x1 convolution.
fn matrix(weight: &Tensor, kind: Kind) -> Tensor {
    let weight = cast(weight, kind);
    match weight.size()[..] {
        [out, input, 1, 1] => weight.view([out, input]),
        _ => weight,
    }
}

/// `y = x W^T + b` over the last dimension, with LoRA adapters beside it.
#[derive(Debug)]
pub struct Linear {
    /// The module path, for example `down_blocks.0.attentions.0.transformer_blocks.0.attn1.to_q`.
    path: String,
    /// `[out, in]`, or `[out, in, 1, 1]` where the file has a 1x1 convolution
    weight: Tensor,
    bias: Option<Tensor>,
    adapters: Vec<Option<Adapter>>,
}

impl Linear {
    pub fn load(from: &Loader, input: i64, output: i64, bias: bool) -> Self {
        Self::with_weight(from, from.tensor("weight", &[output, input]), output, bias)
    }

    /// A layer that the file stores as a 1x1 convolution: over channels-last data it is the same product.
    pub fn load_pointwise(from: &Loader, input: i64, output: i64, bias: bool) -> Self {
        Self::with_weight(from, from.tensor("weight", &[output, input, 1, 1]), output, bias)
    }

    fn with_weight(from: &Loader, weight: Tensor, output: i64, bias: bool) -> Self {
        let bias = bias.then(|| from.tensor("bias", &[output]));
        Self { path: from.own_path().to_string(), weight, bias, adapters: Vec::new() }
    }

    pub fn path(&self) -> &str {
        &self.path
    }

    /// `[out, in]` or `[out, in, 1, 1]`.
    pub fn weight(&self) -> &Tensor {
        &self.weight
    }

    /// Puts an adapter into the given set, in place of the one it may hold there.
    pub fn attach(&mut self, set: AdapterSet, adapter: Adapter) {
        if self.adapters.len() <= set.0 {
            self.adapters.resize_with(set.0 + 1, || None);
        }
        if let Some(place) = self.adapters.get_mut(set.0) {
            *place = Some(adapter);
        }
    }

    /// `[.., in] -> [.., out]`.
    pub fn forward(&self, x: &Tensor, adapters: Option<AdapterSet>) -> Tensor {
        let kind = x.kind();
        let y = x.linear(&matrix(&self.weight, kind), self.bias.as_ref().map(|b| cast(b, kind)));
        match adapters.and_then(|set| self.adapters.get(set.0)) {
            Some(Some(adapter)) => y + adapter.forward(x),
            _ => y,
        }
    }
}

impl Adapter {
    /// `[.., in] -> [.., out]`: the scale is applied where the data is narrowest.
    fn forward(&self, x: &Tensor) -> Tensor {
        let kind = x.kind();
        let narrow = x.linear(&matrix(&self.a, kind), None::<Tensor>);
        let narrow = if self.scale == 1.0 { narrow } else { narrow * self.scale };
        narrow.linear(&matrix(&self.b, kind), None::<Tensor>)
    }
}

/// A 2-d convolution with bias.
#[derive(Debug)]
pub struct Conv2d {
    weight: Tensor,
    bias: Tensor,
    stride: i64,
    padding: i64,
}

impl Conv2d {
    /// A 3x3 convolution that keeps the size (`stride` 1) or halves it (2).
    pub fn load(from: &Loader, input: i64, output: i64, stride: i64) -> Self {
        Self::with_kernel(from, input, output, 3, stride, 1)
    }

    pub fn load_pointwise(from: &Loader, input: i64, output: i64) -> Self {
        Self::with_kernel(from, input, output, 1, 1, 0)
    }

    pub fn with_kernel(from: &Loader, input: i64, output: i64, kernel: i64, stride: i64, padding: i64) -> Self {
        let weight = from.tensor("weight", &[output, input, kernel, kernel]);
        Self { weight, bias: from.tensor("bias", &[output]), stride, padding }
    }

    /// `[B, in, H, W] -> [B, out, H', W']`.
    pub fn forward(&self, x: &Tensor) -> Tensor {
        let (weight, bias) = (cast(&self.weight, x.kind()), cast(&self.bias, x.kind()));
        x.conv2d(&weight, Some(bias), [self.stride; 2], [self.padding; 2], [1, 1], 1)
    }
}

/// Normalisation over groups of channels.
#[derive(Debug)]
pub struct GroupNorm {
    weight: Tensor,
    bias: Tensor,
    groups: i64,
    eps: f64,
}

impl GroupNorm {
    pub fn load(from: &Loader, groups: i64, channels: i64, eps: f64) -> Self {
        Self { weight: from.tensor("weight", &[channels]), bias: from.tensor("bias", &[channels]), groups, eps }
    }

    /// `[B, C, ..] -> [B, C, ..]`.
    pub fn forward(&self, x: &Tensor) -> Tensor {
        let (weight, bias) = (cast(&self.weight, x.kind()), cast(&self.bias, x.kind()));
        x.group_norm(self.groups, Some(weight), Some(bias), self.eps, true)
    }
}

/// Normalisation over the last dimension.
#[derive(Debug)]
pub struct LayerNorm {
    weight: Tensor,
    bias: Tensor,
    eps: f64,
}

impl LayerNorm {
    pub fn load(from: &Loader, width: i64, eps: f64) -> Self {
        Self { weight: from.tensor("weight", &[width]), bias: from.tensor("bias", &[width]), eps }
    }

    /// `[.., width] -> [.., width]`.
    pub fn forward(&self, x: &Tensor) -> Tensor {
        let (weight, bias) = (cast(&self.weight, x.kind()), cast(&self.bias, x.kind()));
        let width = weight.size();
        x.layer_norm(width, Some(weight), Some(bias), self.eps, true)
    }
}

/// Scaled dot product attention over heads that lie side by side in the last dimension.
///
/// `q: [B, N, heads * d]`, `k`, `v: [B, M, heads * d]`, result `[B, N, heads * d]`.
pub fn attend(q: &Tensor, k: &Tensor, v: &Tensor, heads: i64, causal: bool) -> Tensor {
    let split = |x: &Tensor| {
        let size = x.size();
        x.view([size[0], size[1], heads, size[2] / heads]).transpose(1, 2) // [B, heads, N, d]
    };
    let size = q.size();
    Tensor::scaled_dot_product_attention(&split(q), &split(k), &split(v), None::<Tensor>, 0.0, causal, None, false)
        .transpose(1, 2)
        .reshape([size[0], size[1], size[2]])
}
