//! The residual block of UNet and VAE, and the two ways to change the size of a feature map.

use crate::models::layers::{AdapterSet, Adapters, Conv2d, GroupNorm, Linear, Weights};
use crate::weights::Loader;
use tch::Tensor;

/// Settings common to the residual blocks of one network.
#[derive(Debug, Clone, Copy)]
pub struct ResnetShape {
    pub groups: i64,
    pub eps: f64,
    /// The width of the time embedding; None in a VAE.
    pub time_width: Option<i64>,
}

/// norm, silu, conv, + time, norm, silu, conv, + input.
#[derive(Debug, Clone)]
pub struct Resnet {
    norm1: GroupNorm,
    conv1: Conv2d,
    time_emb_proj: Option<Linear>,
    norm2: GroupNorm,
    conv2: Conv2d,
    conv_shortcut: Option<Conv2d>,
}

impl Resnet {
    pub fn load(from: &Loader, shape: ResnetShape, input: i64, output: i64) -> Self {
        let time = |width| Linear::load(&from.sub("time_emb_proj"), width, output, true);
        Self {
            norm1: GroupNorm::load(&from.sub("norm1"), shape.groups, input, shape.eps),
            conv1: Conv2d::load(&from.sub("conv1"), input, output, 1),
            time_emb_proj: shape.time_width.map(time),
            norm2: GroupNorm::load(&from.sub("norm2"), shape.groups, output, shape.eps),
            conv2: Conv2d::load(&from.sub("conv2"), output, output, 1),
            conv_shortcut: (input != output).then(|| Conv2d::load_pointwise(&from.sub("conv_shortcut"), input, output)),
        }
    }

    /// `x: [B, in, H, W] -> [B, out, H, W]`; `time: [B, time_width]` is the embedding after its silu.
    pub fn forward(&self, x: &Tensor, time: Option<&Tensor>, adapters: Option<AdapterSet>) -> Tensor {
        self.forward_beside(x, x, time, adapters)
    }

    /// `forward(x)` with `beside` equal to `x`: the skip connection and the block's input, each by its own handle.
    pub fn forward_beside(
        &self,
        beside: &Tensor,
        x: &Tensor,
        time: Option<&Tensor>,
        adapters: Option<AdapterSet>,
    ) -> Tensor {
        // A layer with an adapter reads its input twice. Behind an alias the two gradients are added before they meet
        // those of other parts: the sum is equal whether this block is computed once or recomputed.
        let mut h = self.conv1.forward(&self.norm1.forward(x).silu(), adapters);
        if let (Some(project), Some(time)) = (&self.time_emb_proj, time) {
            h += project.forward(&time.alias(), adapters).unsqueeze(-1).unsqueeze(-1); // [B, out, 1, 1]
        }
        let h = self.conv2.forward(&self.norm2.forward(&h).silu(), adapters);
        match &self.conv_shortcut {
            Some(shortcut) => shortcut.forward(&beside.alias(), adapters) + h,
            None => beside + h,
        }
    }

    pub fn adapters_mut(&mut self, visit: &mut dyn FnMut(&mut Adapters)) {
        for conv in [Some(&mut self.conv1), Some(&mut self.conv2), self.conv_shortcut.as_mut()].into_iter().flatten() {
            visit(&mut conv.adapters);
        }
        if let Some(project) = &mut self.time_emb_proj {
            visit(&mut project.adapters);
        }
    }
}

impl Weights for Resnet {
    fn weights(&self, adapters: Option<AdapterSet>, visit: &mut dyn FnMut(&Tensor)) {
        for norm in [&self.norm1, &self.norm2] {
            norm.weights(adapters, visit);
        }
        for conv in [Some(&self.conv1), Some(&self.conv2), self.conv_shortcut.as_ref()].into_iter().flatten() {
            conv.weights(adapters, visit);
        }
        self.time_emb_proj.iter().for_each(|project| project.weights(adapters, visit));
    }
}

/// A 3x3 convolution of stride 2. `samplers.0.conv` in the file.
#[derive(Debug)]
pub struct Downsample {
    conv: Conv2d,
    pad_after: bool,
}

impl Downsample {
    /// Padded by 1 on every side, as in the UNet.
    pub fn load(from: &Loader, channels: i64) -> Self {
        Self { conv: Conv2d::load(&from.sub("downsamplers.0.conv"), channels, channels, 2), pad_after: false }
    }

    /// Padded by 1 to the right and below only, as in the VAE's encoder.
    pub fn load_padding_after(from: &Loader, channels: i64) -> Self {
        let conv = Conv2d::with_kernel(&from.sub("downsamplers.0.conv"), channels, channels, 3, 2, 0);
        Self { conv, pad_after: true }
    }

    pub fn forward(&self, x: &Tensor, adapters: Option<AdapterSet>) -> Tensor {
        match self.pad_after {
            true => self.conv.forward(&x.constant_pad_nd([0, 1, 0, 1]), adapters),
            false => self.conv.forward(x, adapters),
        }
    }

    pub fn adapters_mut(&mut self, visit: &mut dyn FnMut(&mut Adapters)) {
        visit(&mut self.conv.adapters);
    }
}

/// Nearest neighbours to a size, then a 3x3 convolution.
#[derive(Debug, Clone)]
pub struct Upsample {
    conv: Conv2d,
}

impl Upsample {
    pub fn load(from: &Loader, channels: i64) -> Self {
        Self { conv: Conv2d::load(&from.sub("upsamplers.0.conv"), channels, channels, 1) }
    }

    /// `[B, C, h, w] -> [B, C, H, W]`.
    pub fn forward(&self, x: &Tensor, height: i64, width: i64, adapters: Option<AdapterSet>) -> Tensor {
        self.conv.forward(&x.upsample_nearest2d([height, width], None, None), adapters)
    }

    pub fn adapters_mut(&mut self, visit: &mut dyn FnMut(&mut Adapters)) {
        visit(&mut self.conv.adapters);
    }
}

impl Weights for Upsample {
    fn weights(&self, adapters: Option<AdapterSet>, visit: &mut dyn FnMut(&Tensor)) {
        self.conv.weights(adapters, visit);
    }
}
