//! A requested model in memory.

use super::painter::{Network, Painter};
use super::prompt_memory::PromptMemory;
use super::request::{LoraFile, ModelRequest};
use super::sides::NegativeSide;
use crate::machine::bytes::in_words;
use anyhow::{Context, Result};
use pipelines::families::{Denoiser, ModelFolder};
use pipelines::lora::{self, Lora, LoraTargets};
use pipelines::models::{AdapterSet, AutoencoderKl};
use pipelines::weights::LoadOptions;
use tch::Tensor;

/// The LoRAs of both sides in memory.
pub struct Worn {
    positive: Lora,
    /// None: the negative side has the LoRA of the positive side.
    negative: Option<Lora>,
}

impl Worn {
    /// Reads the LoRAs of a request.
    pub fn read(request: &ModelRequest, negative: Option<&NegativeSide>, targets: &LoraTargets) -> Result<Self> {
        let others = negative.and_then(|side| side.loras.as_ref());
        Ok(Self {
            positive: read_loras(&request.loras, targets)?,
            negative: others.map(|loras| read_loras(loras, targets)).transpose()?,
        })
    }
}

/// A model in memory, ready to paint.
pub struct Model {
    pub folder: ModelFolder,
    pub denoiser: Denoiser,
    pub vae: AutoencoderKl,
    pub prompts: PromptMemory,
    /// The LoRAs of the request.
    pub adapters: Option<AdapterSet>,
    negative: Option<NegativeNetwork>,
    options: LoadOptions,
    /// Bytes of the LoRAs of both sides.
    lora_bytes: (usize, usize),
}

/// A separate network of the negative side.
struct NegativeNetwork {
    /// None: the positive side's UNet, with other adapters.
    denoiser: Option<Denoiser>,
    adapters: Option<AdapterSet>,
}

impl Model {
    /// Loads all weights of a request. `negative`: its negative side, from [`NegativeSide::of`].
    pub fn load(folder: ModelFolder, request: &ModelRequest, negative: Option<&NegativeSide>) -> Result<Self> {
        let worn = Worn::read(request, negative, &folder.lora_targets())?;
        let prompts = Self::load_prompts(&folder, request, &worn)?;
        Self::load_around(prompts, folder, request, negative, &worn)
    }

    /// The text encoders alone: prompts can be encoded before the other networks need the memory.
    pub fn load_prompts(folder: &ModelFolder, request: &ModelRequest, worn: &Worn) -> Result<PromptMemory> {
        let text = folder.load_text(&request.load_options())?;
        let mut prompts = PromptMemory::new(text, request.overrides.clip_skip, folder.empty_side());
        prompts.wear(&worn.positive)?;
        if let Some(lora) = &worn.negative {
            prompts.wear_on_negative_side(lora)?;
        }
        Ok(prompts)
    }

    /// Loads the networks that paint.
    pub fn load_around(
        prompts: PromptMemory,
        folder: ModelFolder,
        request: &ModelRequest,
        negative: Option<&NegativeSide>,
        worn: &Worn,
    ) -> Result<Self> {
        let options = request.load_options();
        let mut denoiser = folder.load_denoiser(request.unet.as_deref(), &options)?;
        let wear = |lora: &Lora, denoiser: &mut Denoiser| lora.attach(lora::Network::Unet, denoiser.network.as_mut());
        let adapters = wear(&worn.positive, &mut denoiser)?;
        let other = worn.negative.as_ref();
        let negative = match negative.map(|side| side.unet.as_deref()) {
            None => None,
            Some(None) => {
                let adapters = other.map_or(Ok(adapters), |lora| wear(lora, &mut denoiser))?;
                Some(NegativeNetwork { denoiser: None, adapters })
            }
            Some(Some(terms)) => {
                let mut denoiser = folder.load_mixed_denoiser(terms, &options)?;
                let adapters = wear(other.unwrap_or(&worn.positive), &mut denoiser)?;
                Some(NegativeNetwork { denoiser: Some(denoiser), adapters })
            }
        };
        let vae = folder.load_vae(request.vae.as_deref(), &options)?;
        let lora_bytes = (bytes_of_lora(&worn.positive), other.map_or(0, bytes_of_lora));
        Ok(Self { folder, denoiser, vae, prompts, adapters, negative, options, lora_bytes })
    }

    /// A painter over this model's parts.
    pub fn painter(&self) -> Painter<'_> {
        Painter {
            denoiser: &self.denoiser,
            negative_network: self.negative.as_ref().map(|negative| Network {
                denoiser: negative.denoiser.as_ref().unwrap_or(&self.denoiser),
                adapters: negative.adapters,
            }),
            vae: &self.vae,
            scheduler: self.folder.scheduler(),
            conditioning: Box::new(|prompt| self.prompts.conditioning(prompt)),
            negative: Box::new(|prompt| self.prompts.negative(prompt)),
            device: self.options.device,
            kind: self.options.kind,
        }
    }

    /// The files of each side, in a line; None if one network serves both.
    pub fn memory(&self) -> Option<String> {
        let negative = self.negative.as_ref()?;
        let unet =
            |denoiser: &Denoiser| in_words(bytes_of(denoiser.network.named_parameters().iter().map(|(_, t)| t)) as u64);
        let own = negative.denoiser.as_ref().map_or("the same UNet".to_string(), |d| format!("a UNet of {}", unet(d)));
        let loras =
            |bytes: usize| if bytes == 0 { String::new() } else { format!(" and LoRAs of {}", in_words(bytes as u64)) };
        let (positive, other) = self.lora_bytes;
        // LoRAs of both sides are held twice if two networks use them.
        let other = if other == 0 && negative.denoiser.is_some() { positive } else { other };
        Some(format!(
            "memory: the positive side has a UNet of {}{}, the negative side {own}{}",
            unet(&self.denoiser),
            loras(positive),
            loras(other)
        ))
    }
}

fn bytes_of<'a>(tensors: impl Iterator<Item = &'a Tensor>) -> usize {
    tensors.map(|tensor| tensor.numel() * tensor.kind().elt_size_in_bytes()).sum()
}

fn bytes_of_lora(lora: &Lora) -> usize {
    let modules = lora.network(lora::Network::Unet).into_iter().flat_map(|weights| weights.modules.values());
    modules.map(|module| bytes_of([&module.a, &module.b].into_iter())).sum()
}

/// Reads the LoRAs of a side and joins them: all are applied at once.
pub fn read_loras(loras: &[LoraFile], targets: &LoraTargets) -> Result<Lora> {
    let read = |lora: &LoraFile| {
        let read = Lora::read(&lora.path, targets);
        let read = read.with_context(|| format!("cannot use the LoRA {}", lora.path.display()))?;
        Ok(read.scaled(lora.scale))
    };
    Ok(Lora::joined(loras.iter().map(read).collect::<Result<_>>()?)?)
}
