//! Options of `generate` that affect the look of a picture, and that may differ between the sides of a comparison.

use super::choices::{ComputeDtype, Prediction};
use clap::builder::PossibleValuesParser;
use diffpref::keys::ConfigError;
use diffpref::painting::{LoraFile, Merge, NegativeRequest, Overrides, SamplingRequest, Tiling};
use pipelines::schedulers::{SCHEDULERS, Scheduler};
use std::path::PathBuf;
use tch::{Device, Kind};

/// Weights of both sides of guidance, and sampling.
#[derive(Debug, Clone, Default, clap::Args)]
pub struct PaintingArgs {
    /// Prompt of the negative side of guidance [default: empty, or zeros where the model's pipeline says so]
    #[arg(long, value_name = "TEXT")]
    pub negative_prompt: Option<String>,
    /// UNet folder instead of the model's own
    #[arg(long, value_name = "DIR")]
    pub unet: Option<PathBuf>,
    /// VAE folder or file instead of the model's own
    #[arg(long, value_name = "PATH")]
    pub vae: Option<PathBuf>,
    /// LoRA and its scale [default scale: 1]; repeatable
    #[arg(long, value_name = "FILE[:SCALE]")]
    pub lora: Vec<LoraFile>,
    /// UNet folder of the negative side [default: one network for both sides]
    #[arg(long, value_name = "DIR")]
    negative_unet: Option<PathBuf>,
    /// LoRA of the negative side and its scale [default scale: 1]; repeatable
    #[arg(long, value_name = "FILE[:SCALE]")]
    negative_lora: Vec<LoraFile>,
    /// Weights of the positive and the negative offset in the negative model: model + ALPHA (positive - model) + BETA
    /// (negative - model); NPO publishes 1,1 [default: 0,1]
    #[arg(long, allow_hyphen_values = true, value_name = "ALPHA,BETA")]
    negative_merge: Option<Merge>,
    /// Layers of the text encoders to skip, counted as in diffusers [default: 0]
    #[arg(long, value_name = "N")]
    clip_skip: Option<usize>,
    /// Scale of classifier-free guidance; 1 switches it off [default: 7.5, SDXL 5]
    #[arg(long, allow_negative_numbers = true, value_name = "SCALE")]
    guidance_scale: Option<f64>,
    /// Guidance rescale phi (Lin et al. 2023): 0 off, 0.7 usual, at most 1 [default: 0]
    #[arg(long, allow_negative_numbers = true, value_name = "PHI")]
    guidance_rescale: Option<f64>,
    /// CFG++ scale (0 to 1, 0.2 to 0.6 usual) instead of --guidance-scale; ddim only
    #[arg(long, allow_negative_numbers = true, value_name = "LAMBDA")]
    cfg_plus_plus: Option<f64>,
    /// Sampler; auto: the model's own [default: auto]
    #[arg(long, value_name = "NAME", value_parser = schedulers())]
    scheduler: Option<String>,
    /// Noise per step of ddim, as a share of DDPM's: 0 to 1 [default: 0]
    #[arg(long, allow_negative_numbers = true, value_name = "ETA")]
    eta: Option<f64>,
    /// Karras's noise levels, for dpmpp_2m and euler [default: as the model's files say]
    #[arg(long, value_name = "BOOL", num_args = 0..=1, default_missing_value = "true")]
    karras: Option<bool>,
    /// Prediction type; auto: as the model's files say [default: auto]
    #[arg(long, value_name = "TYPE", value_enum)]
    prediction_type: Option<Prediction>,
    /// Whether the noise schedule ends at pure noise [default: as the model's files say]
    #[arg(long, value_name = "BOOL", num_args = 0..=1, default_missing_value = "true")]
    zero_terminal_snr: Option<bool>,
    /// Denoising steps [default: 50; dpmpp_2m 25]
    #[arg(long, allow_negative_numbers = true, value_name = "N")]
    steps: Option<i64>,
    /// Data type of the networks; auto: float32 on the CPU, bfloat16 on CUDA [default: auto]
    #[arg(long, value_name = "KIND", value_enum)]
    dtype: Option<ComputeDtype>,
    /// Decoding in tiles, which needs less memory; auto: where memory is short [default: auto]
    #[arg(long, value_name = "WHEN", value_enum)]
    vae_tiling: Option<Tiling>,
}

fn schedulers() -> PossibleValuesParser {
    PossibleValuesParser::new(std::iter::once("auto").chain(SCHEDULERS.iter().map(|scheduler| scheduler.name)))
}

impl PaintingArgs {
    /// These options, with `common` for absent ones. LoRAs replace the common ones.
    pub fn over(&self, common: &Self) -> Self {
        fn or<T: Clone>(own: &Option<T>, common: &Option<T>) -> Option<T> {
            own.clone().or_else(|| common.clone())
        }
        let loras = |own: &Vec<LoraFile>, common: &Vec<LoraFile>| if own.is_empty() { common } else { own }.clone();
        Self {
            negative_prompt: or(&self.negative_prompt, &common.negative_prompt),
            unet: or(&self.unet, &common.unet),
            vae: or(&self.vae, &common.vae),
            lora: loras(&self.lora, &common.lora),
            negative_unet: or(&self.negative_unet, &common.negative_unet),
            negative_lora: loras(&self.negative_lora, &common.negative_lora),
            negative_merge: or(&self.negative_merge, &common.negative_merge),
            clip_skip: or(&self.clip_skip, &common.clip_skip),
            guidance_scale: or(&self.guidance_scale, &common.guidance_scale),
            guidance_rescale: or(&self.guidance_rescale, &common.guidance_rescale),
            cfg_plus_plus: or(&self.cfg_plus_plus, &common.cfg_plus_plus),
            scheduler: or(&self.scheduler, &common.scheduler),
            eta: or(&self.eta, &common.eta),
            karras: or(&self.karras, &common.karras),
            prediction_type: or(&self.prediction_type, &common.prediction_type),
            zero_terminal_snr: or(&self.zero_terminal_snr, &common.zero_terminal_snr),
            steps: or(&self.steps, &common.steps),
            dtype: or(&self.dtype, &common.dtype),
            vae_tiling: or(&self.vae_tiling, &common.vae_tiling),
        }
    }

    pub fn tiling(&self) -> Tiling {
        self.vae_tiling.unwrap_or_default()
    }

    /// Compute type of networks on a device.
    pub fn kind(&self, device: Device) -> Kind {
        self.dtype.unwrap_or_default().kind(device)
    }

    /// The requested negative side.
    ///
    /// # Errors
    /// A merge without a negative side.
    pub fn negative(&self) -> Result<Option<NegativeRequest>, ConfigError> {
        NegativeRequest::of(self.negative_unet.clone(), self.negative_lora.clone(), self.negative_merge)
    }

    pub fn overrides(&self) -> Overrides {
        Overrides {
            clip_skip: self.clip_skip.unwrap_or_default(),
            prediction_type: self.prediction_type.unwrap_or_default().value(),
            zero_terminal_snr: self.zero_terminal_snr,
        }
    }

    pub fn sampling(&self) -> SamplingRequest {
        SamplingRequest {
            // "auto" names none.
            scheduler: self.scheduler.as_deref().and_then(Scheduler::by_name),
            steps: self.steps,
            eta: self.eta,
            karras: self.karras,
            guidance_scale: self.guidance_scale,
            guidance_rescale: self.guidance_rescale,
            cfg_plus_plus: self.cfg_plus_plus,
        }
    }
}
