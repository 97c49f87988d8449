//! The levels of the UNet: down, mid, up.

use super::config::UNetConfig;
use crate::error::Result;
use crate::models::layers::{AdapterSet, Adapters, Weights};
use crate::models::recompute::{Recompute, recomputed};
use crate::models::resnet::{Downsample, Resnet, ResnetShape, Upsample};
use crate::models::unet::transformer::{Transformer, TransformerShape};
use crate::weights::Loader;
use tch::Tensor;

/// Inputs of every block besides its feature map.
#[derive(Clone, Copy)]
pub struct Context<'a> {
    /// `[B, time_width]`, after its silu
    pub time: &'a Tensor,
    /// `[B, L, D]`
    pub prompt_embeds: &'a Tensor,
    pub adapters: Option<AdapterSet>,
    pub recompute: Recompute,
}

impl UNetConfig {
    fn resnet(&self) -> ResnetShape {
        ResnetShape { groups: self.norm_num_groups, eps: self.norm_eps, time_width: Some(self.time_width()) }
    }

    /// The transformers of a level, counted from outside.
    fn transformer(&self, level: usize) -> TransformerShape {
        TransformerShape {
            channels: self.block_out_channels[level],
            heads: self.heads[level],
            depth: self.transformer_layers[level],
            cross_attention_dim: self.cross_attention_dim,
            groups: self.norm_num_groups,
            linear_projection: self.use_linear_projection,
        }
    }
}

/// A residual block and, in levels with attention, the transformer after it.
#[derive(Debug, Clone)]
struct Layer {
    resnet: Resnet,
    attention: Option<Transformer>,
}

impl Layer {
    fn forward(&self, x: &Tensor, context: Context<'_>) -> Result<Tensor> {
        let x = forward_resnet(&self.resnet, x, context)?;
        match &self.attention {
            Some(attention) => forward_attention(attention, &x, context),
            None => Ok(x),
        }
    }

    /// On the way up: the layer over the concatenation of `x` and `skip`.
    fn forward_joined(&self, x: &Tensor, skip: &Tensor, context: Context<'_>) -> Result<Tensor> {
        if context.recompute != Recompute::All {
            return self.forward(&Tensor::cat(&[x, skip], 1), context);
        }
        let adapters = context.adapters;
        let inputs = [x, skip, context.time, context.prompt_embeds];
        recomputed(self, adapters, &inputs, move |layer, inputs| {
            let [x, skip, time, prompt_embeds] = inputs else { unreachable!("four inputs are given") };
            let x = layer.resnet.forward(&Tensor::cat(&[x, skip], 1), Some(time), adapters);
            layer.attention.as_ref().map_or(x.shallow_clone(), |a| a.forward(&x, prompt_embeds, adapters))
        })
    }

    fn adapters_mut(&mut self, visit: &mut dyn FnMut(&mut Adapters)) {
        self.resnet.adapters_mut(visit);
        if let Some(attention) = &mut self.attention {
            attention.adapters_mut(visit);
        }
    }
}

impl Weights for Layer {
    fn weights(&self, adapters: Option<AdapterSet>, visit: &mut dyn FnMut(&Tensor)) {
        self.resnet.weights(adapters, visit);
        self.attention.iter().for_each(|attention| attention.weights(adapters, visit));
    }
}

/// A resnet, recomputed depending on the context. Its input is passed twice, for the skip connection and the block,
/// so that both gradients meet in the order of a network that stores everything: the sum has the same bits.
fn forward_resnet(resnet: &Resnet, x: &Tensor, context: Context<'_>) -> Result<Tensor> {
    let adapters = context.adapters;
    if context.recompute < Recompute::Blocks {
        return Ok(resnet.forward(x, Some(context.time), adapters));
    }
    recomputed(resnet, adapters, &[x, x, context.time], move |resnet, inputs| {
        resnet.forward_beside(&inputs[0], &inputs[1], Some(&inputs[2]), adapters)
    })
}

/// [`forward_resnet`] for a transformer.
fn forward_attention(attention: &Transformer, x: &Tensor, context: Context<'_>) -> Result<Tensor> {
    let adapters = context.adapters;
    if context.recompute < Recompute::Attention {
        return Ok(attention.forward(x, context.prompt_embeds, adapters));
    }
    recomputed(attention, adapters, &[x, x, context.prompt_embeds], move |attention, inputs| {
        attention.forward_beside(&inputs[0], &inputs[1], &inputs[2], adapters)
    })
}

/// `down_blocks.i`.
#[derive(Debug)]
pub struct DownBlock {
    layers: Vec<Layer>,
    downsample: Option<Downsample>,
}

impl DownBlock {
    pub fn load(from: &Loader, config: &UNetConfig, level: usize) -> Self {
        let from = from.sub(&format!("down_blocks.{level}"));
        let output = config.block_out_channels[level];
        let input = config.block_out_channels[level.saturating_sub(1)];
        let layer = |j: i64| Layer {
            resnet: Resnet::load(
                &from.sub(&format!("resnets.{j}")),
                config.resnet(),
                if j == 0 { input } else { output },
                output,
            ),
            attention: config.down_attention[level]
                .then(|| Transformer::load(&from.sub(&format!("attentions.{j}")), config.transformer(level))),
        };
        let last = level + 1 == config.block_out_channels.len();
        Self {
            layers: (0..config.layers_per_block[level]).map(layer).collect(),
            downsample: (!last).then(|| Downsample::load(&from, output)),
        }
    }

    /// Pushes every intermediate feature map for the way up.
    pub fn forward(&self, x: Tensor, context: Context<'_>, skips: &mut Vec<Tensor>) -> Result<Tensor> {
        let mut x = x;
        for layer in &self.layers {
            x = layer.forward(&x, context)?;
            skips.push(x.shallow_clone());
        }
        if let Some(downsample) = &self.downsample {
            x = downsample.forward(&x, context.adapters);
            skips.push(x.shallow_clone());
        }
        Ok(x)
    }

    pub fn adapters_mut(&mut self, visit: &mut dyn FnMut(&mut Adapters)) {
        self.layers.iter_mut().for_each(|layer| layer.adapters_mut(visit));
        if let Some(downsample) = &mut self.downsample {
            downsample.adapters_mut(visit);
        }
    }
}

/// `mid_block`: resnet, transformer, resnet.
#[derive(Debug)]
pub struct MidBlock {
    first: Layer,
    second: Resnet,
}

impl MidBlock {
    pub fn load(from: &Loader, config: &UNetConfig) -> Self {
        let from = from.sub("mid_block");
        let level = config.block_out_channels.len() - 1;
        let channels = config.block_out_channels[level];
        let resnet = |j: i64| Resnet::load(&from.sub(&format!("resnets.{j}")), config.resnet(), channels, channels);
        let attention = Transformer::load(&from.sub("attentions.0"), config.transformer(level));
        Self { first: Layer { resnet: resnet(0), attention: Some(attention) }, second: resnet(1) }
    }

    pub fn forward(&self, x: &Tensor, context: Context<'_>) -> Result<Tensor> {
        forward_resnet(&self.second, &self.first.forward(x, context)?, context)
    }

    pub fn adapters_mut(&mut self, visit: &mut dyn FnMut(&mut Adapters)) {
        self.first.adapters_mut(visit);
        self.second.adapters_mut(visit);
    }
}

/// `up_blocks.i`, innermost first.
#[derive(Debug)]
pub struct UpBlock {
    layers: Vec<Layer>,
    upsample: Option<Upsample>,
}

impl UpBlock {
    pub fn load(from: &Loader, config: &UNetConfig, index: usize) -> Self {
        let from = from.sub(&format!("up_blocks.{index}"));
        let channels = &config.block_out_channels;
        let level = channels.len() - 1 - index;
        let output = channels[level];
        let before = if index == 0 { output } else { channels[level + 1] };
        let count = config.layers_per_block[level] + 1;
        let layer = |j: i64| {
            // Skips are popped last in, first out: the last one of a level is its input.
            let skip = if j + 1 == count { channels[level.saturating_sub(1)] } else { output };
            let input = if j == 0 { before } else { output } + skip;
            Layer {
                resnet: Resnet::load(&from.sub(&format!("resnets.{j}")), config.resnet(), input, output),
                attention: config.up_attention[index]
                    .then(|| Transformer::load(&from.sub(&format!("attentions.{j}")), config.transformer(level))),
            }
        };
        Self { layers: (0..count).map(layer).collect(), upsample: (level > 0).then(|| Upsample::load(&from, output)) }
    }

    /// Pops one feature map per layer; upsamples to the size of the next level.
    pub fn forward(&self, x: Tensor, context: Context<'_>, skips: &mut Vec<Tensor>) -> Result<Tensor> {
        let mut x = x;
        for layer in &self.layers {
            if let Some(skip) = skips.pop() {
                x = layer.forward_joined(&x, &skip, context)?;
            }
        }
        match (&self.upsample, skips.last().map(Tensor::size).as_deref()) {
            (Some(upsample), Some([_, _, height, width])) => forward_upsample(upsample, &x, [*height, *width], context),
            _ => Ok(x),
        }
    }

    pub fn adapters_mut(&mut self, visit: &mut dyn FnMut(&mut Adapters)) {
        self.layers.iter_mut().for_each(|layer| layer.adapters_mut(visit));
        if let Some(upsample) = &mut self.upsample {
            upsample.adapters_mut(visit);
        }
    }
}

/// [`forward_resnet`] for the upsampling between levels: the convolution's input is four times the map.
fn forward_upsample(
    upsample: &Upsample,
    x: &Tensor,
    [height, width]: [i64; 2],
    context: Context<'_>,
) -> Result<Tensor> {
    let adapters = context.adapters;
    if context.recompute < Recompute::All {
        return Ok(upsample.forward(x, height, width, adapters));
    }
    recomputed(upsample, adapters, &[x], move |upsample, inputs| upsample.forward(&inputs[0], height, width, adapters))
}
