//! Layers shared by the networks. Weights are cast to the kind of the input if the two differ, so that float32
//! masters serve a bfloat16 forward pass.

use crate::weights::Loader;
use std::ops::Deref;
use tch::{Kind, Tensor};

/// A weight. A clone shares its values and its gradient.
#[derive(Debug)]
pub struct Parameter(Tensor);

impl Clone for Parameter {
    fn clone(&self) -> Self {
        Self(self.0.shallow_clone())
    }
}

impl Deref for Parameter {
    type Target = Tensor;

    fn deref(&self) -> &Tensor {
        &self.0
    }
}

/// A layer, or layers together.
pub trait Weights {
    /// Visits every tensor that a forward pass with these adapters reads besides its input.
    fn weights(&self, adapters: Option<AdapterSet>, visit: &mut dyn FnMut(&Tensor));
}

/// Index of a set of LoRA adapters attached to a network. Networks take `Option<AdapterSet>`: `None` is the network
/// of the file alone, bit for bit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct AdapterSet(pub usize);

/// The LoRA of one layer: `y += scale * B A x` (arXiv 2106.09685).
#[derive(Debug)]
pub struct Adapter {
    /// `[r, in]`, or `[r, in, k, k]` for a convolution
    pub a: Tensor,
    /// `[out, r]`, or `[out, r, 1, 1]`
    pub b: Tensor,
    pub scale: f64,
}

impl Clone for Adapter {
    /// Shares the tensors.
    fn clone(&self) -> Self {
        Self { a: self.a.shallow_clone(), b: self.b.shallow_clone(), scale: self.scale }
    }
}

/// Adapters of a layer: one per set.
#[derive(Debug, Clone)]
pub struct Adapters {
    /// The module path, for example `down_blocks.0.attentions.0.transformer_blocks.0.attn1.to_q`.
    path: String,
    /// The stored shape of the layer's weight.
    shape: Vec<i64>,
    by_set: Vec<Option<Adapter>>,
}

impl Adapters {
    fn new(from: &Loader, shape: &[i64]) -> Self {
        Self { path: from.own_path().to_string(), shape: shape.to_vec(), by_set: Vec::new() }
    }

    /// The module path of the layer.
    pub fn path(&self) -> &str {
        &self.path
    }

    /// The shape of the layer's weight: `[out, in]`, or `[out, in, k, k]` for a stored convolution.
    pub fn weight_shape(&self) -> &[i64] {
        &self.shape
    }

    /// Puts an adapter into the given set, replacing an existing one.
    pub fn attach(&mut self, set: AdapterSet, adapter: Adapter) {
        if self.by_set.len() <= set.0 {
            self.by_set.resize_with(set.0 + 1, || None);
        }
        if let Some(place) = self.by_set.get_mut(set.0) {
            *place = Some(adapter);
        }
    }

    /// Removes the adapters of every set.
    pub fn take_off(&mut self) {
        self.by_set.clear();
    }

    fn worn(&self, set: Option<AdapterSet>) -> Option<&Adapter> {
        self.by_set.get(set?.0)?.as_ref()
    }
}

impl Weights for Adapters {
    fn weights(&self, adapters: Option<AdapterSet>, visit: &mut dyn FnMut(&Tensor)) {
        if let Some(adapter) = self.worn(adapters) {
            visit(&adapter.a);
            visit(&adapter.b);
        }
    }
}

/// Access of LoRA to a network: every layer that takes an adapter.
pub trait AdapterHost {
    /// Visits the layers.
    fn adapters_mut(&mut self, visit: &mut dyn FnMut(&mut Adapters));

    /// A new, empty set.
    fn new_adapter_set(&mut self) -> AdapterSet;

    /// Removes all adapters; the weights of the layers stay.
    fn take_off_adapters(&mut self) {
        self.adapters_mut(&mut Adapters::take_off);
    }

    /// Device of the weights.
    fn device(&self) -> tch::Device;
}

/// `tensor` in the kind and on the device of a computation; unchanged if it is there already.
fn cast(tensor: &Tensor, kind: Kind) -> Tensor {
    if tensor.kind() == kind { tensor.shallow_clone() } else { tensor.to_kind(kind) }
}

/// The matrix of a weight that may be stored as a 1x1 convolution.
fn matrix(weight: &Tensor, kind: Kind) -> Tensor {
    let weight = cast(weight, kind);
    match weight.size()[..] {
        [out, input, 1, 1] => weight.view([out, input]),
        _ => weight,
    }
}

/// `y = x W^T + b` over the last dimension, plus LoRA adapters.
#[derive(Debug, Clone)]
pub struct Linear {
    /// `[out, in]`, or `[out, in, 1, 1]` for a stored 1x1 convolution
    weight: Parameter,
    bias: Option<Parameter>,
    pub adapters: Adapters,
}

impl Linear {
    pub fn load(from: &Loader, input: i64, output: i64, bias: bool) -> Self {
        Self::with_weight(from, &[output, input], bias)
    }

    /// A layer stored as a 1x1 convolution: over channels-last data it is the same product.
    pub fn load_pointwise(from: &Loader, input: i64, output: i64, bias: bool) -> Self {
        Self::with_weight(from, &[output, input, 1, 1], bias)
    }

    fn with_weight(from: &Loader, shape: &[i64], bias: bool) -> Self {
        let weight = Parameter(from.tensor("weight", shape));
        let bias = bias.then(|| Parameter(from.tensor("bias", &shape[..1])));
        Self { weight, bias, adapters: Adapters::new(from, shape) }
    }

    /// `[.., in] -> [.., out]`.
    pub fn forward(&self, x: &Tensor, adapters: Option<AdapterSet>) -> Tensor {
        let kind = x.kind();
        let y = x.linear(&matrix(&self.weight, kind), self.bias.as_ref().map(|b| cast(b, kind)));
        match self.adapters.worn(adapters) {
            Some(adapter) => y + adapter.over_last_dimension(x),
            None => y,
        }
    }
}

impl Weights for Linear {
    fn weights(&self, adapters: Option<AdapterSet>, visit: &mut dyn FnMut(&Tensor)) {
        visit(&self.weight);
        self.bias.iter().for_each(|bias| visit(bias));
        self.adapters.weights(adapters, visit);
    }
}

impl Adapter {
    /// `[.., in] -> [.., out]`: the scale is applied where the data is narrowest.
    fn over_last_dimension(&self, x: &Tensor) -> Tensor {
        let kind = x.kind();
        let narrow = x.linear(&matrix(&self.a, kind), None::<Tensor>);
        self.scaled(narrow).linear(&matrix(&self.b, kind), None::<Tensor>)
    }

    /// `[B, in, H, W] -> [B, out, H', W']` parallel to a convolution of that stride and padding.
    fn over_pixels(&self, x: &Tensor, stride: i64, padding: i64) -> Tensor {
        let kind = x.kind();
        let narrow = convolve(x, &cast(&self.a, kind), None, stride, padding);
        convolve(&self.scaled(narrow), &cast(&self.b, kind), None, 1, 0)
    }

    fn scaled(&self, narrow: Tensor) -> Tensor {
        if self.scale == 1.0 { narrow } else { narrow * self.scale }
    }
}

fn convolve(x: &Tensor, weight: &Tensor, bias: Option<Tensor>, stride: i64, padding: i64) -> Tensor {
    x.conv2d(weight, bias, [stride; 2], [padding; 2], [1, 1], 1)
}

/// A 2-d convolution with bias, plus LoRA adapters.
#[derive(Debug, Clone)]
pub struct Conv2d {
    weight: Parameter,
    bias: Parameter,
    stride: i64,
    padding: i64,
    pub adapters: Adapters,
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
        let shape = [output, input, kernel, kernel];
        let (weight, bias) = (Parameter(from.tensor("weight", &shape)), Parameter(from.tensor("bias", &[output])));
        Self { weight, bias, stride, padding, adapters: Adapters::new(from, &shape) }
    }

    /// `[B, in, H, W] -> [B, out, H', W']`.
    pub fn forward(&self, x: &Tensor, adapters: Option<AdapterSet>) -> Tensor {
        let (weight, bias) = (cast(&self.weight, x.kind()), cast(&self.bias, x.kind()));
        let y = convolve(x, &weight, Some(bias), self.stride, self.padding);
        match self.adapters.worn(adapters) {
            Some(adapter) => y + adapter.over_pixels(x, self.stride, self.padding),
            None => y,
        }
    }
}

impl Weights for Conv2d {
    fn weights(&self, adapters: Option<AdapterSet>, visit: &mut dyn FnMut(&Tensor)) {
        visit(&self.weight);
        visit(&self.bias);
        self.adapters.weights(adapters, visit);
    }
}

/// Normalisation over groups of channels.
#[derive(Debug, Clone)]
pub struct GroupNorm {
    weight: Parameter,
    bias: Parameter,
    groups: i64,
    eps: f64,
}

impl GroupNorm {
    pub fn load(from: &Loader, groups: i64, channels: i64, eps: f64) -> Self {
        let (weight, bias) = (from.tensor("weight", &[channels]), from.tensor("bias", &[channels]));
        Self { weight: Parameter(weight), bias: Parameter(bias), groups, eps }
    }

    /// `[B, C, ..] -> [B, C, ..]`.
    pub fn forward(&self, x: &Tensor) -> Tensor {
        let (weight, bias) = (cast(&self.weight, x.kind()), cast(&self.bias, x.kind()));
        x.group_norm(self.groups, Some(weight), Some(bias), self.eps, true)
    }
}

impl Weights for GroupNorm {
    fn weights(&self, _: Option<AdapterSet>, visit: &mut dyn FnMut(&Tensor)) {
        visit(&self.weight);
        visit(&self.bias);
    }
}

/// Normalisation over the last dimension.
#[derive(Debug, Clone)]
pub struct LayerNorm {
    weight: Parameter,
    bias: Parameter,
    eps: f64,
}

impl LayerNorm {
    pub fn load(from: &Loader, width: i64, eps: f64) -> Self {
        let (weight, bias) = (from.tensor("weight", &[width]), from.tensor("bias", &[width]));
        Self { weight: Parameter(weight), bias: Parameter(bias), eps }
    }

    /// `[.., width] -> [.., width]`.
    pub fn forward(&self, x: &Tensor) -> Tensor {
        let (weight, bias) = (cast(&self.weight, x.kind()), cast(&self.bias, x.kind()));
        let width = weight.size();
        x.layer_norm(width, Some(weight), Some(bias), self.eps, true)
    }
}

impl Weights for LayerNorm {
    fn weights(&self, _: Option<AdapterSet>, visit: &mut dyn FnMut(&Tensor)) {
        visit(&self.weight);
        visit(&self.bias);
    }
}

/// Scaled dot product attention over heads concatenated in the last dimension.
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
