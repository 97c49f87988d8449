//! Options of `generate` that affect the look of a picture, and that may differ between the sides of a comparison.

use clap::builder::PossibleValuesParser;
use diffpref::painting::{LoraFile, Merge, NegativeRequest, Overrides, SamplingRequest, Tiling};
use diffpref::settings::ConfigError;
use pipelines::Dtype;
use pipelines::schedulers::{PredictionType, SCHEDULERS};
use std::path::PathBuf;
use tch::{Device, Kind};

/// Weights of both sides of guidance, and sampling.
#[derive(Debug, Clone, Default, clap::Args)]
pub struct PaintingArgs {
    /// What the pictures are guided away from [default: the empty prompt, or zeros where the model's pipeline says so]
    #[arg(long, value_name = "TEXT")]
    pub negative_prompt: Option<String>,
    /// A UNet folder that replaces the model's own
    #[arg(long, value_name = "DIR")]
    pub unet: Option<PathBuf>,
    /// A VAE folder or file that replaces the model's own
    #[arg(long, value_name = "PATH")]
    pub vae: Option<PathBuf>,
    /// A LoRA and how strongly it acts; may be repeated
    #[arg(long, value_name = "FILE[:SCALE]")]
    pub lora: Vec<LoraFile>,
    /// A UNet folder for the negative side [default: one network serves both sides]
    #[arg(long, value_name = "DIR")]
    negative_unet: Option<PathBuf>,
    /// A LoRA on the model that the negative side wears; may be repeated
    #[arg(long, value_name = "FILE[:SCALE]")]
    negative_lora: Vec<LoraFile>,
    /// The negative side is model + ALPHA (positive - model) + BETA (negative - model); NPO publishes 1,1 [default: 0,1]
    #[arg(long, allow_hyphen_values = true, value_name = "ALPHA,BETA")]
    negative_merge: Option<Merge>,
    /// Layers of the text encoders to skip, as diffusers counts them [default: 0]
    #[arg(long, value_name = "N")]
    clip_skip: Option<usize>,
    /// Classifier-free guidance; 1 switches it off [default: 7.5, SDXL 5]
    #[arg(long, allow_negative_numbers = true, value_name = "SCALE")]
    guidance_scale: Option<f64>,
    /// Draws the spread of guided predictions back to that of unguided ones, from 0 (not) to 1 (wholly); 0.7 is usual
    #[arg(long, allow_negative_numbers = true, value_name = "PHI")]
    guidance_rescale: Option<f64>,
    /// CFG++ instead of classifier-free guidance, from 0 to 1; with ddim only
    #[arg(long, allow_negative_numbers = true, value_name = "LAMBDA")]
    cfg_plus_plus: Option<f64>,
    /// The sampler; auto is the model's own [default: auto]
    #[arg(long, value_name = "NAME", value_parser = schedulers())]
    scheduler: Option<String>,
    /// Noise added at every step of ddim, from 0 (none) to 1 (as in DDPM) [default: 0]
    #[arg(long, allow_negative_numbers = true, value_name = "ETA")]
    eta: Option<f64>,
    /// Steps through Karras's noise levels, for dpmpp_2m and euler [default: as the model says]
    #[arg(long, value_name = "BOOL", num_args = 0..=1, default_missing_value = "true")]
    karras: Option<bool>,
    /// What the network predicts; auto is what the model says [default: auto]
    #[arg(long, value_name = "TYPE", value_parser = ["auto", "epsilon", "v_prediction"])]
    prediction_type: Option<String>,
    /// Ends the noise schedule in noise alone [default: as the model says]
    #[arg(long, value_name = "BOOL", num_args = 0..=1, default_missing_value = "true")]
    zero_terminal_snr: Option<bool>,
    /// Denoising steps [default: 50; dpmpp_2m 25]
    #[arg(long, allow_negative_numbers = true, value_name = "N")]
    steps: Option<i64>,
    /// What the networks compute in; auto is float32 on the CPU and bfloat16 on CUDA [default: auto]
    #[arg(long, value_name = "KIND", value_parser = ["auto", "float32", "bfloat16", "float16", "float64"])]
    dtype: Option<String>,
    /// Whether the VAE decodes in tiles: less memory, other seams; auto where memory is short [default: auto]
    #[arg(long, value_name = "WHEN", value_parser = ["auto", "on", "off"])]
    vae_tiling: Option<String>,
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
        match self.vae_tiling.as_deref() {
            Some("on") => Tiling::On,
            Some("off") => Tiling::Off,
            _ => Tiling::Auto,
        }
    }

    /// Compute type of networks on a device.
    pub fn kind(&self, device: Device) -> Kind {
        let auto = if device == Device::Cpu { Dtype::Float32 } else { Dtype::BFloat16 };
        self.dtype.as_deref().and_then(|name| name.parse().ok()).unwrap_or(auto).kind()
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
            prediction_type: self.prediction_type.as_deref().and_then(PredictionType::named),
            zero_terminal_snr: self.zero_terminal_snr,
        }
    }

    pub fn sampling(&self) -> SamplingRequest {
        SamplingRequest {
            scheduler: self.scheduler.clone().unwrap_or_else(|| "auto".to_string()),
            steps: self.steps,
            eta: self.eta,
            karras: self.karras,
            guidance_scale: self.guidance_scale,
            guidance_rescale: self.guidance_rescale,
            cfg_plus_plus: self.cfg_plus_plus,
        }
    }
}
