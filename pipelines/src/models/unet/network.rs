//! The denoising network of Stable Diffusion 1.5, 2.1 and XL: diffusers' `UNet2DConditionModel`.

use super::blocks::{Context, DownBlock, MidBlock, UpBlock};
use super::config::UNetConfig;
use super::embedding::Embedding;
use crate::conditioning::{Conditioning, POOLED_PROMPT_EMBEDS, PROMPT_EMBEDS, TIME_IDS};
use crate::error::{Error, Result};
use crate::levels::Levels;
use crate::models::component::{LayerShapes, layer_shapes, save_component, shallow};
use crate::models::layers::AdapterSet;
use crate::models::layers::{AdapterHost, Adapters, Conv2d, GroupNorm, Weights};
use crate::models::recompute::{Recompute, recomputed};
use crate::network::{Architecture, Network};
use crate::weights::{LoadOptions, Loader, ParameterShapes, WeightStore};
use std::collections::BTreeMap;
use std::path::Path;
use tch::{Device, Kind, Tensor};

const STEM: &str = "diffusion_pytorch_model";

/// The network, its weights as leaves: a trainer sets `requires_grad` on them and changes them in place.
#[derive(Debug)]
pub struct UNet2DConditionModel {
    config: UNetConfig,
    embedding: Embedding,
    conv_in: Conv2d,
    down: Vec<DownBlock>,
    mid: MidBlock,
    up: Vec<UpBlock>,
    head: Head,
    parameters: BTreeMap<String, Tensor>,
    adapter_sets: usize,
    recompute: Recompute,
}

/// `conv_norm_out`, silu, `conv_out`.
#[derive(Debug, Clone)]
struct Head {
    conv_norm_out: GroupNorm,
    conv_out: Conv2d,
}

impl Head {
    fn forward(&self, x: &Tensor, adapters: Option<AdapterSet>) -> Tensor {
        self.conv_out.forward(&self.conv_norm_out.forward(x).silu(), adapters)
    }
}

impl Weights for Head {
    fn weights(&self, adapters: Option<AdapterSet>, visit: &mut dyn FnMut(&Tensor)) {
        self.conv_norm_out.weights(adapters, visit);
        self.conv_out.weights(adapters, visit);
    }
}

impl UNet2DConditionModel {
    /// Reads a component folder: config.json and safetensors.
    pub fn load(dir: &Path, options: &LoadOptions) -> Result<Self> {
        let config = UNetConfig::read(dir)?;
        let store = WeightStore::open_component(dir, STEM)?;
        Self::from_store(config, store, options)
    }

    /// Builds the network from a configuration and a store of tensors with diffusers' names.
    pub fn from_store(config: UNetConfig, store: WeightStore, options: &LoadOptions) -> Result<Self> {
        let loader = Loader::new(store, options);
        let mut unet = Self::build(config, &loader);
        unet.parameters = loader.finish()?;
        Ok(unet)
    }

    /// The names and shapes of all parameters of a configuration, sorted by name.
    pub fn parameter_shapes(config: &UNetConfig) -> ParameterShapes {
        let loader = Loader::describing();
        Self::build(config.clone(), &loader);
        loader.shapes()
    }

    fn build(config: UNetConfig, from: &Loader) -> Self {
        let levels = config.block_out_channels.len();
        let outer = config.block_out_channels[0];
        Self {
            embedding: Embedding::load(from, &config),
            conv_in: Conv2d::load(&from.sub("conv_in"), config.in_channels, outer, 1),
            down: (0..levels).map(|level| DownBlock::load(from, &config, level)).collect(),
            mid: MidBlock::load(from, &config),
            up: (0..levels).map(|index| UpBlock::load(from, &config, index)).collect(),
            head: Head {
                conv_norm_out: GroupNorm::load(
                    &from.sub("conv_norm_out"),
                    config.norm_num_groups,
                    outer,
                    config.norm_eps,
                ),
                conv_out: Conv2d::load(&from.sub("conv_out"), outer, config.out_channels, 1),
            },
            parameters: BTreeMap::new(),
            adapter_sets: 0,
            recompute: Recompute::None,
            config,
        }
    }

    pub fn config(&self) -> &UNetConfig {
        &self.config
    }

    /// Predicts noise (or velocity): `latents: [B, C, h, w]`, `timesteps: [B]`, result `[B, C, h, w]` in the kind of
    /// the latents. A shape that conflicts with the configuration is an error.
    pub fn forward(
        &self,
        latents: &Tensor,
        timesteps: &Tensor,
        conditioning: &Conditioning,
        adapters: Option<AdapterSet>,
    ) -> Result<Tensor> {
        let prompt_embeds = self.check(latents, timesteps, conditioning)?.to_kind(latents.kind());
        let kind = latents.kind();
        // Every resnet needs the silu of one embedding: computed once.
        let time = self.embedding.forward(timesteps, conditioning, kind, adapters).silu();
        let context = Context { time: &time, prompt_embeds: &prompt_embeds, adapters, recompute: self.recompute };
        let mut x = self.conv_in.forward(latents, adapters);
        let mut skips = vec![x.shallow_clone()];
        for block in &self.down {
            x = block.forward(x, context, &mut skips)?;
        }
        x = self.mid.forward(&x, context)?;
        for block in &self.up {
            x = block.forward(x, context, &mut skips)?;
        }
        if self.recompute < Recompute::All {
            return Ok(self.head.forward(&x, adapters));
        }
        recomputed(&self.head, adapters, &[&x], move |head, inputs| head.forward(&inputs[0], adapters))
    }

    /// Returns the prompt embeddings.
    fn check<'a>(&self, latents: &Tensor, timesteps: &Tensor, conditioning: &'a Conditioning) -> Result<&'a Tensor> {
        let batch = latents.size().first().copied().unwrap_or_default();
        let channels = self.config.in_channels;
        let refuse = |what, expected: String, found: &Tensor| {
            Err(Error::Shape { what, expected, found: format!("{:?}", found.size()) })
        };
        if !matches!(latents.size()[..], [b, c, h, w] if b > 0 && c == channels && h > 0 && w > 0) {
            return refuse("a batch of latents", format!("[B, {channels}, h, w]"), latents);
        }
        if timesteps.size() != [batch] {
            return refuse("a batch of timesteps", format!("[{batch}]"), timesteps);
        }
        let Some(embeds) = conditioning.get(PROMPT_EMBEDS) else {
            return Err(Error::Invalid("this UNet takes prompt_embeds: give them".into()));
        };
        let width = self.config.cross_attention_dim;
        if !matches!(embeds.size()[..], [b, l, d] if b == batch && l > 0 && d == width) {
            return refuse("a batch of prompt embeddings", format!("[{batch}, L, {width}]"), embeds);
        }
        let Some(added) = self.config.text_time else { return Ok(embeds) };
        let (Some(pooled), Some(ids)) = (conditioning.get(POOLED_PROMPT_EMBEDS), conditioning.get(TIME_IDS)) else {
            let problem = "this UNet takes pooled_prompt_embeds and time_ids beside the prompt (SDXL): give both";
            return Err(Error::Invalid(problem.into()));
        };
        let (pooled_size, ids_size) = (pooled.size(), ids.size());
        match (&pooled_size[..], &ids_size[..]) {
            ([b, p], [c, n]) if *b == batch && *c == batch && p + n * added.time_width == added.input_width => {
                Ok(embeds)
            }
            _ => {
                let width = format!("P + {} * n = {}", added.time_width, added.input_width);
                let expected = format!("[{batch}, P] and time_ids of [{batch}, n] with {width}");
                let found = format!("{pooled_size:?} and time_ids of {ids_size:?}");
                Err(Error::Shape { what: "pooled_prompt_embeds", expected, found })
            }
        }
    }

    /// The layers of a configuration available to a LoRA.
    pub fn layer_shapes(config: &UNetConfig) -> LayerShapes {
        layer_shapes(&mut Self::build(config.clone(), &Loader::describing()))
    }
}

impl Network for UNet2DConditionModel {
    fn predict(
        &self,
        latents: &Tensor,
        levels: &Levels,
        conditioning: &Conditioning,
        adapters: Option<AdapterSet>,
    ) -> Result<Tensor> {
        self.forward(latents, levels.tensor(), conditioning, adapters)
    }

    fn named_parameters(&self) -> Vec<(String, Tensor)> {
        shallow(&self.parameters)
    }

    fn architecture(&self) -> &dyn Architecture {
        &self.config
    }

    /// Results and gradients are unchanged, on the CPU bit for bit.
    fn set_recompute(&mut self, recompute: Recompute) {
        self.recompute = recompute;
    }

    fn save(&self, dir: &Path, kind: Kind, values: Option<&[(String, Tensor)]>) -> Result<()> {
        let mut tensors: BTreeMap<String, Tensor> = self.named_parameters().into_iter().collect();
        for (name, value) in values.unwrap_or_default() {
            match tensors.get_mut(name) {
                Some(place) if place.size() == value.size() => *place = value.shallow_clone(),
                _ => return Err(Error::Invalid(format!("{name} {:?} is no parameter of this UNet", value.size()))),
            }
        }
        save_component(dir, STEM, &self.config.file, kind, tensors.into_iter().collect())
    }
}

impl AdapterHost for UNet2DConditionModel {
    fn adapters_mut(&mut self, visit: &mut dyn FnMut(&mut Adapters)) {
        self.embedding.adapters_mut(visit);
        visit(&mut self.conv_in.adapters);
        self.down.iter_mut().for_each(|block| block.adapters_mut(visit));
        self.mid.adapters_mut(visit);
        self.up.iter_mut().for_each(|block| block.adapters_mut(visit));
        visit(&mut self.head.conv_out.adapters);
    }

    fn new_adapter_set(&mut self) -> AdapterSet {
        self.adapter_sets += 1;
        AdapterSet(self.adapter_sets - 1)
    }

    fn device(&self) -> Device {
        self.parameters.values().next().map_or(Device::Cpu, Tensor::device)
    }
}
