//! From model parts to pictures.

use super::decoding::{Decoding, NotFinite, Tiling};
use super::sampling::Sampling;
use crate::keys::ConfigError;
use crate::progress::{Progress, Stop};
use anyhow::{Context, Result};
use diffpref_native::Generator;
use image::RgbImage;
use pipelines::Conditioning;
use pipelines::families::Denoiser;
use pipelines::models::{AdapterSet, AutoencoderKl};
use pipelines::sampling::{Side, sample};
use pipelines::schedulers::SchedulerConfig;
use tch::{Device, Kind, Tensor};

/// Conditioning of a prompt, one row.
pub type OfPrompt<'a> = Box<dyn Fn(&str) -> Result<Conditioning> + 'a>;
/// Conditioning of a negative prompt, one row; None without a negative prompt.
pub type OfNegative<'a> = Box<dyn Fn(Option<&str>) -> Result<Conditioning> + 'a>;

/// Paints pictures with borrowed model parts.
///
/// ```ignore
/// let memory = PromptMemory::new(text, 0, folder.empty_side());
/// let painter = Painter { denoiser: &denoiser, negative_network: None, vae: &vae, scheduler: folder.scheduler(),
///                         conditioning: Box::new(|prompt| memory.conditioning(prompt)),
///                         negative: Box::new(|prompt| memory.negative(prompt)), device, kind };
/// let pictures = [Picture { prompt: "cat", seed: 0 }, Picture { prompt: "cat", seed: 1 }];
/// painter.paint(&pictures, &Look::default(), adapters, &Silent, &Stop::default(), &mut |index, image| save(index, image))?;
/// ```
pub struct Painter<'a> {
    pub denoiser: &'a Denoiser,
    /// The predictor of the negative side of guidance; None: network and adapters of the positive side.
    pub negative_network: Option<Network<'a>>,
    pub vae: &'a AutoencoderKl,
    /// The model's scheduler_config.json: samplers are built from it as by diffusers' `from_config`.
    pub scheduler: &'a SchedulerConfig,
    /// From a [`PromptMemory`](super::prompt_memory::PromptMemory), or from a cache if the text encoder is not resident.
    pub conditioning: OfPrompt<'a>,
    pub negative: OfNegative<'a>,
    /// Device of the networks, and their compute type.
    pub device: Device,
    pub kind: Kind,
}

/// A network and its adapters.
#[derive(Clone, Copy)]
pub struct Network<'a> {
    pub denoiser: &'a Denoiser,
    pub adapters: Option<AdapterSet>,
}

/// A prompt and its seed: that of `torch.Generator("cpu")`, the source of the picture's noise.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Picture<'a> {
    pub prompt: &'a str,
    pub seed: u64,
}

/// Options of painting, common to all pictures of a call.
#[derive(Debug, Clone, PartialEq)]
pub struct Look {
    /// Pixels; a multiple of the VAE's factor.
    pub width: i64,
    pub height: i64,
    pub sampling: Sampling,
    /// None: default of the model's pipeline for the side without a prompt.
    pub negative_prompt: Option<String>,
    /// Pictures per forward pass; affects only speed, memory and rounding.
    pub batch: usize,
    pub tiling: Tiling,
}

/// A finished picture, and whether its VAE used tiles.
pub struct Painted {
    pub image: RgbImage,
    pub tiled: bool,
}

impl Default for Look {
    fn default() -> Self {
        Self {
            width: 512,
            height: 512,
            sampling: Sampling::default(),
            negative_prompt: None,
            batch: 1,
            tiling: Tiling::Auto,
        }
    }
}

impl Painter<'_> {
    /// Paints `pictures` in order and passes each on with its index as soon as its batch is decoded.
    ///
    /// Noise of a picture: N(0, I) `[1, 4, h, w]` from `torch.Generator("cpu").manual_seed(seed)`; a stochastic
    /// sampler continues with the same generator. On the CPU in float32 a picture therefore equals that of diffusers,
    /// with every batch size.
    ///
    /// The VAE decodes one picture at a time, in tiles depending on `look`. Progress advances by pictures within the
    /// caller's phase. A signal stops between calls of the network, with [`crate::progress::Stopped`] as the error.
    ///
    /// # Errors
    /// A size that the VAE cannot divide, more steps than the schedule has, a failing `finished`.
    pub fn paint(
        &self,
        pictures: &[Picture],
        look: &Look,
        adapters: Option<AdapterSet>,
        progress: &dyn Progress,
        stop: &Stop,
        finished: &mut dyn FnMut(usize, Painted) -> Result<()>,
    ) -> Result<()> {
        check_size(look.width, look.height, self.vae.factor())?;
        let calls = look.sampling.sampler(self.scheduler)?.timesteps().len();
        let _frozen = tch::no_grad_guard();
        let mut decoding = None;
        for (chunk, batch) in pictures.chunks(look.batch.max(1)).enumerate() {
            stop.check()?;
            let first = chunk * look.batch.max(1);
            let latents = self.sample_batch(batch, look, adapters, &mut |call| {
                progress.advance(first as u64, &format!("step {}/{calls}", call + 1));
                stop.requested().is_none()
            });
            let latents = latents.map_err(|error| with_picture(error, batch))?;
            // None after a signal; the current batch is lost.
            let Some(latents) = latents else { return Ok(stop.check()?) };
            let size = (look.height, look.width);
            let decoding = decoding
                .get_or_insert_with(|| Decoding::for_memory(self.vae, size, look.tiling, self.device, progress));
            let bytes = decoding.decode(self.vae, &latents).map_err(|error| with_picture(error, batch))?;
            for offset in 0..batch.len() {
                let image = picture_of(&bytes.select(0, offset as i64))?;
                finished(first + offset, Painted { image, tiled: decoding.tiled })?;
                progress.advance((first + offset + 1) as u64, "");
            }
        }
        Ok(())
    }

    /// Scaled latents of a batch; None once `on_call` returns false.
    fn sample_batch(
        &self,
        batch: &[Picture],
        look: &Look,
        adapters: Option<AdapterSet>,
        on_call: &mut dyn FnMut(usize) -> bool,
    ) -> Result<Option<Tensor>> {
        let told = |c: Conditioning| self.denoiser.with_size(c.to(self.device, self.kind), look.height, look.width);
        let prompts = batch.iter().map(|picture| (self.conditioning)(picture.prompt).map(told));
        let prompts = prompts.collect::<Result<Vec<_>>>()?;
        let conditioning = Conditioning::stacked(&prompts.iter().collect::<Vec<_>>())?;
        let positive = Side { denoiser: self.denoiser, adapters, conditioning: &conditioning };
        let guidance = look.sampling.guidance;
        let negative = match guidance.is_off() {
            true => None,
            false => Some(told((self.negative)(look.negative_prompt.as_deref())?)),
        };
        let negative = negative.map(|one| one.repeat(batch.len() as i64));
        let Network { denoiser, adapters } =
            self.negative_network.unwrap_or(Network { denoiser: self.denoiser, adapters });
        let negative = negative.as_ref().map(|conditioning| Side { denoiser, adapters, conditioning });

        let factor = self.vae.factor();
        let shape =
            [1, self.denoiser.network.architecture().latent_channels(), look.height / factor, look.width / factor];
        let mut generators: Vec<Generator> = batch.iter().map(|picture| Generator::cpu(picture.seed)).collect();
        let mut draw = || {
            let rows: Vec<Tensor> = generators.iter_mut().map(|generator| generator.randn(&shape)).collect();
            Tensor::cat(&rows, 0).to_device(self.device).to_kind(self.kind)
        };
        let mut sampler = look.sampling.sampler(self.scheduler)?;
        let start = draw();
        Ok(sample(&positive, negative.as_ref(), sampler.as_mut(), guidance, start, &mut draw, on_call)?)
    }
}

/// An error of one picture of a batch, with its prompt and seed.
fn with_picture(error: anyhow::Error, batch: &[Picture]) -> anyhow::Error {
    let row = match error.downcast_ref::<pipelines::Error>() {
        Some(pipelines::Error::NotFinite { row, .. }) => *row,
        _ => match error.downcast_ref::<NotFinite>() {
            Some(NotFinite { row }) => *row,
            None => return error,
        },
    };
    let Picture { prompt, seed } = batch[row];
    error.context(format!(
        "the picture of {prompt:?}, seed {seed}, would be black. Paint with float32 or bfloat16; if that does not help, the \
         weights or the LoRA do not fit"
    ))
}

/// Beyond this, attention over the latents of a picture takes hours per step, and activations leave the training
/// range of networks.
const LARGEST_SIDE: i64 = 16_384;

/// Refuses a size without whole latents, or with more latents than fit into memory.
pub fn check_size(width: i64, height: i64, factor: i64) -> Result<(), ConfigError> {
    for (option, pixels) in [("--width", width), ("--height", height)] {
        if pixels > LARGEST_SIDE {
            return Err(ConfigError(format!("{option} {pixels}: expected at most {LARGEST_SIDE} pixels")));
        }
        if pixels < factor || pixels % factor != 0 {
            let below = (pixels / factor).max(1) * factor;
            return Err(ConfigError(format!(
                "{option} {pixels}: expected a multiple of {factor}, the VAE's factor; try {below} or {}",
                below + factor
            )));
        }
    }
    Ok(())
}

/// `[H, W, 3]` bytes as a picture.
pub fn picture_of(bytes: &Tensor) -> Result<RgbImage> {
    let (height, width, _) = bytes.size3()?;
    let pixels = Vec::<u8>::try_from(bytes.contiguous().view(-1))?;
    RgbImage::from_raw(width as u32, height as u32, pixels).context("a decoded picture has no three channels")
}
