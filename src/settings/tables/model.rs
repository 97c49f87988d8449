//! [model]: what is trained, where, and in what numbers.

use crate::data::batches::TimeIds;
use crate::keys::OnResume::{Rounding, SameContent};
use crate::keys::{Auto, Kind, at_least, of, one_of, switch, text};
use crate::machine::devices::Device;
use crate::settings::facts::{Facts, Refusal};
use pipelines::Dtype;
use pipelines::hub::Location;
use pipelines::schedulers::PredictionType;
use serde::{Deserialize, Serialize};
use std::path::PathBuf;
use toml::Value;

const DTYPES: &[&str] = &[Dtype::Float32.name(), Dtype::BFloat16.name(), Dtype::Float64.name()];
/// `cpu`, `cuda`, `cuda:N`, or "auto".
pub const DEVICE: Kind = Kind::Checked { check: check_device, words: DEVICE_WORDS };
const DEVICE_WORDS: &str = "\"auto\", \"cpu\", \"cuda\" or \"cuda:N\"";

crate::keys! {
    pub struct Parsed {
        /// model folder in the diffusers layout, single .safetensors file, or hub id org/name
        path: PathBuf = text().required().on_resume(SameContent),
        /// branch, tag or commit of a hub id; default: main
        revision: Option<String> = text(),
        /// of the weight files, fp16 for example; default: plain files, fp16 where there are none
        variant: Option<String> = text(),
        /// start from the UNet of this folder
        unet: Option<PathBuf> = text().on_resume(SameContent),
        /// take the VAE from this folder or .safetensors file
        vae: Option<PathBuf> = text().on_resume(SameContent),
        /// text encoder layers to skip, as diffusers counts them
        clip_skip: i64 = at_least(0).or("0"),
        /// CPU float32, CUDA bfloat16 compute; trained weights are float32 masters
        dtype: Auto<Dtype> = of(Kind::Choice(DTYPES, &[])).or_auto(),
        /// cpu, cuda or cuda:N
        device: Auto<Device> = of(DEVICE).or_text("auto").on_resume(Rounding),
        /// the model's own, unless given
        prediction_type: Auto<PredictionType> = of(Kind::Choice(&PredictionType::NAMES, &[])).or_auto(),
        /// whether the noise schedule ends at pure noise; auto: the model's own
        zero_terminal_snr: Auto<bool> = switch().or_auto(),
        /// SDXL only, default "true_sizes": size and crop inputs of a picture; constant: (R, R, 0, 0, R, R)
        time_ids: Option<TimeIds> = one_of::<TimeIds>(),
    }
}

fn check_device(value: &Value) -> Result<Value, String> {
    let known = |text: &str| text.parse::<Auto<Device>>().is_ok();
    value.as_str().filter(|text| known(text)).map(|_| value.clone()).ok_or_else(|| DEVICE_WORDS.into())
}

#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct ModelConfig {
    pub path: PathBuf,
    pub revision: Option<String>,
    pub variant: Option<String>,
    pub unet: Option<PathBuf>,
    pub vae: Option<PathBuf>,
    pub clip_skip: i64,
    pub dtype: Dtype,
    pub device: Device,
    pub prediction_type: PredictionType,
    pub zero_terminal_snr: bool,
    /// Only for models with size inputs.
    pub time_ids: Option<TimeIds>,
}

impl Parsed {
    /// Location of the model.
    pub fn location(&self) -> Location {
        Location { path: self.path.clone(), revision: self.revision.clone(), variant: self.variant.clone() }
    }

    pub(in crate::settings) fn resolve(&self, facts: &Facts) -> Result<ModelConfig, Refusal> {
        if self.clip_skip > facts.most_clip_skip {
            return Err(format!(
                "model.clip_skip = {}: expected 0 to {} for this model's text encoders.",
                self.clip_skip, facts.most_clip_skip
            ));
        }
        let told = facts.family.tells_sizes();
        if !told && self.time_ids.is_some() {
            return Err("model.time_ids: this model has no size inputs, only SDXL has. Remove the key.".into());
        }
        let device = self.device.given().unwrap_or(if facts.cuda { Device::Cuda(0) } else { Device::Cpu });
        let dtype = match device {
            Device::Cpu => Dtype::Float32,
            Device::Cuda(_) => Dtype::BFloat16,
        };
        Ok(ModelConfig {
            path: self.path.clone(),
            revision: self.revision.clone(),
            variant: self.variant.clone(),
            unet: self.unet.clone(),
            vae: self.vae.clone(),
            clip_skip: self.clip_skip,
            dtype: self.dtype.given().unwrap_or(dtype),
            device,
            prediction_type: self.prediction_type.given().unwrap_or(facts.prediction_type),
            zero_terminal_snr: self.zero_terminal_snr.given().unwrap_or(facts.zero_terminal_snr),
            time_ids: self.time_ids.or(told.then_some(TimeIds::TrueSizes)),
        })
    }
}

impl ModelConfig {
    /// Location of the model.
    pub fn location(&self) -> Location {
        Location { path: self.path.clone(), revision: self.revision.clone(), variant: self.variant.clone() }
    }
}
