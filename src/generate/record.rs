//! Record of a picture: its line in images.jsonl, and the settings text for other programs.

use crate::machine::hashes::FileHashes;
use crate::painting::{LoraRecord, NegativeRecord};
use pipelines::Dtype;
use pipelines::families::EmptySide;
use pipelines::schedulers::{PredictionType, Scheduler};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use std::path::{Path, PathBuf};

/// The program and its version, as written into pictures.
pub const PROGRAM: &str = concat!("diffpref ", env!("CARGO_PKG_VERSION"));

/// Everything that a picture depends on. A key that an older version did not write has its default.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Record {
    /// Name of the picture in its folder.
    pub file: String,
    pub prompt: String,
    pub negative_prompt: Option<String>,
    pub seed: u64,
    pub model: PathBuf,
    pub unet: Option<PathBuf>,
    pub vae: Option<PathBuf>,
    pub loras: Vec<LoraRecord>,
    pub negative: Option<NegativeRecord>,
    pub clip_skip: usize,
    pub empty_side: EmptySide,
    /// In pixels.
    pub width: i64,
    pub height: i64,
    pub dtype: Option<Dtype>,
    pub device: String,
    pub batch: usize,
    /// `None`: not painted yet, and memory decides.
    pub vae_tiling: Option<bool>,
    /// Hashes of the weight files except the LoRAs.
    pub weights: FileHashes,
    pub program: String,
    #[serde(flatten)]
    pub sampling: SamplingRecord,
}

/// The part of a record that describes sampling.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct SamplingRecord {
    /// `None` with CFG++.
    pub guidance_scale: Option<f64>,
    pub guidance_rescale: f64,
    /// lambda of CFG++.
    pub cfg_plus_plus: Option<f64>,
    pub scheduler: String,
    pub eta: f64,
    pub karras: bool,
    pub prediction_type: Option<PredictionType>,
    pub zero_terminal_snr: bool,
    /// SHA-256 of the model's scheduler_config.json.
    pub scheduler_config: String,
    pub steps: i64,
}

impl Record {
    /// One line of images.jsonl, without its end.
    ///
    /// # Errors
    /// A path that is not UTF-8.
    pub fn to_json(&self) -> serde_json::Result<String> {
        serde_json::to_string(self)
    }

    /// The record without values that have no effect on the picture beyond that of others. A resumed run may differ in
    /// them: paths of files with a recorded hash, batch, program.
    fn comparable(&self) -> Self {
        let without_paths =
            |loras: &[LoraRecord]| loras.iter().map(|l| LoraRecord { file: PathBuf::new(), ..l.clone() }).collect();
        let negative = |negative: &NegativeRecord| NegativeRecord {
            unet: None,
            loras: without_paths(&negative.loras),
            ..negative.clone()
        };
        Self {
            model: PathBuf::new(),
            unet: None,
            vae: None,
            batch: 0,
            program: String::new(),
            loras: without_paths(&self.loras),
            negative: self.negative.as_ref().map(negative),
            ..self.clone()
        }
    }
}

/// The first key in which two records must not differ but do: its value in `there` and in `asked`. Where the request
/// leaves tiling to the memory, a picture may be tiled or not.
///
/// # Errors
/// A path that is not UTF-8.
pub fn first_difference(there: &Record, asked: &Record) -> serde_json::Result<Option<(String, Value, Value)>> {
    let (mut there, asked) = (there.comparable(), asked.comparable());
    if asked.vae_tiling.is_none() {
        there.vae_tiling = None;
    }
    let keys = |record: &Record| serde_json::from_value::<Map<String, Value>>(serde_json::to_value(record)?);
    let mut old = keys(&there)?;
    let both = keys(&asked)?.into_iter().map(|(key, new)| (old.remove(&key).unwrap_or_default(), key, new));
    Ok(both.filter(|(old, _, new)| old != new).map(|(old, key, new)| (key, old, new)).next())
}

/// The `parameters` text in the format of A1111: prompt, negative prompt, one line of settings.
pub fn parameters(record: &Record) -> String {
    let mut lines = vec![record.prompt.clone()];
    let negative_prompt = record.negative_prompt.as_ref().filter(|text| !text.is_empty());
    lines.extend(negative_prompt.map(|text| format!("Negative prompt: {text}")));
    let settings = settings(record).into_iter().map(|(key, value)| format!("{key}: {}", quoted(&value)));
    lines.push(settings.collect::<Vec<_>>().join(", "));
    lines.join("\n")
}

fn settings(record: &Record) -> Vec<(&'static str, String)> {
    let sampling = &record.sampling;
    let guidance = match (sampling.cfg_plus_plus, sampling.guidance_scale) {
        (Some(lambda), _) => ("CFG++", number(lambda)),
        (None, scale) => ("CFG scale", number(scale.unwrap_or(1.0))),
    };
    let model = record.model.file_name().unwrap_or_default().to_string_lossy().into_owned();
    let mut settings = vec![
        ("Steps", sampling.steps.to_string()),
        ("Sampler", sampler_title(sampling)),
        guidance,
        ("Seed", record.seed.to_string()),
        ("Size", format!("{}x{}", record.width, record.height)),
        ("Model hash", unet_hash(&record.weights)),
        ("Model", model),
    ];
    if sampling.eta != 0.0 {
        settings.push(("Eta", number(sampling.eta)));
    }
    if sampling.guidance_rescale != 0.0 {
        settings.push(("CFG rescale", number(sampling.guidance_rescale)));
    }
    let unusual = sampling.prediction_type.filter(|kind| *kind != PredictionType::Epsilon);
    settings.extend(unusual.map(|kind| ("Prediction type", kind.name().to_string())));
    if sampling.zero_terminal_snr {
        settings.push(("Noise Schedule", "Zero Terminal SNR".to_string()));
    }
    if record.vae_tiling == Some(true) {
        settings.push(("VAE tiling", "true".to_string()));
    }
    settings.extend(lora_hashes(&record.loras).map(|loras| ("Lora hashes", loras)));
    if let Some(negative) = &record.negative {
        settings.push(("Negative model hash", unet_hash(&negative.weights)));
        settings.extend(lora_hashes(&negative.loras).map(|loras| ("Negative Lora hashes", loras)));
        let merge = negative.merge.map(|[alpha, beta]| format!("{}, {}", number(alpha), number(beta)));
        settings.extend(merge.map(|merge| ("Negative merge", merge)));
    }
    settings.push(("Version", PROGRAM.to_string()));
    settings
}

/// As in JSON: 7.0, not 7.
fn number(value: f64) -> String {
    Value::from(value).to_string()
}

/// A1111's name of the sampler: `DPM++ 2M Karras`.
fn sampler_title(sampling: &SamplingRecord) -> String {
    let title = Scheduler::by_name(&sampling.scheduler).map_or(sampling.scheduler.as_str(), |known| known.title);
    format!("{title}{}", if sampling.karras { " Karras" } else { "" })
}

/// The first digits of the hash of a UNet's first file.
fn unet_hash(weights: &FileHashes) -> String {
    let unet = weights.iter().find(|(name, _)| name.starts_with("unet/") && name.ends_with(".safetensors"));
    unet.map_or(String::new(), |(_, hash)| hash.chars().take(10).collect())
}

fn lora_hashes(loras: &[LoraRecord]) -> Option<String> {
    let one = |lora: &LoraRecord| {
        let name = Path::new(&lora.file).file_stem().unwrap_or_default().to_string_lossy();
        format!("{name}: {}", lora.sha256.chars().take(10).collect::<String>())
    };
    (!loras.is_empty()).then(|| loras.iter().map(one).collect::<Vec<_>>().join(", "))
}

/// A1111 reads a value with comma, colon or newline only as JSON text.
fn quoted(value: &str) -> String {
    match value.contains([',', ':', '\n']) {
        true => Value::String(value.to_string()).to_string(),
        false => value.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record() -> Record {
        let weights = [
            ("text_encoder/model.safetensors".to_string(), "ff".to_string()),
            ("unet/diffusion_pytorch_model.safetensors".to_string(), "0123456789abcdef".to_string()),
        ];
        Record {
            file: "000000-00.png".into(),
            prompt: "a cat".into(),
            negative_prompt: Some("blur".into()),
            seed: 7,
            model: "models/tiny".into(),
            width: 64,
            height: 32,
            weights: weights.into(),
            sampling: SamplingRecord {
                guidance_scale: Some(7.5),
                scheduler: "ddim".into(),
                prediction_type: Some(PredictionType::Epsilon),
                steps: 50,
                ..SamplingRecord::default()
            },
            ..Record::default()
        }
    }

    #[test]
    fn parameters_are_written_as_other_programs_read_them() {
        let expected = format!(
            "a cat\nNegative prompt: blur\nSteps: 50, Sampler: DDIM, CFG scale: 7.5, Seed: 7, Size: 64x32, \
             Model hash: 0123456789, Model: tiny, Version: {PROGRAM}"
        );
        assert_eq!(parameters(&record()), expected);
        let lora = LoraRecord { file: "x/style.safetensors".into(), scale: 0.5, sha256: "aabbccddeeff".into() };
        let other = Record { negative_prompt: None, model: "a, b".into(), loras: vec![lora], ..record() };
        let text = parameters(&other);
        assert!(!text.contains("Negative prompt"), "{text}");
        assert!(text.contains("Model: \"a, b\", Lora hashes: \"style: aabbccddee\", Version"), "{text}");
    }

    #[test]
    fn whatever_changes_a_picture_is_in_its_parameters() {
        let settings = |change: &dyn Fn(&mut SamplingRecord)| {
            let mut record = record();
            change(&mut record.sampling);
            parameters(&record).lines().last().unwrap().to_string()
        };
        for (name, karras, title) in [
            ("pndm", false, "PLMS"),
            ("ddim", false, "DDIM"),
            ("dpmpp_2m", false, "DPM++ 2M"),
            ("dpmpp_2m", true, "DPM++ 2M Karras"),
            ("euler", false, "Euler"),
            ("euler", true, "Euler Karras"),
            ("euler_a", false, "Euler a"),
        ] {
            let text = settings(&|s| (s.scheduler, s.karras) = (name.into(), karras));
            assert!(text.starts_with(&format!("Steps: 50, Sampler: {title}, CFG scale: 7.5, ")), "{text}");
        }
        let text = settings(&|s| (s.eta, s.guidance_rescale) = (0.5, 0.7));
        assert!(text.contains(", Eta: 0.5, CFG rescale: 0.7, Version: "), "{text}");
        let text = settings(&|s| (s.guidance_scale, s.cfg_plus_plus) = (None, Some(0.4)));
        assert!(text.contains("Sampler: DDIM, CFG++: 0.4, Seed: 7") && !text.contains("CFG scale"), "{text}");
        let v = Some(PredictionType::VPrediction);
        let text = settings(&|s| (s.prediction_type, s.zero_terminal_snr) = (v, true));
        assert!(
            text.contains(", Prediction type: v_prediction, Noise Schedule: Zero Terminal SNR, Version: "),
            "{text}"
        );
    }

    #[test]
    fn records_differ_in_what_changes_a_picture_only() {
        let difference = |there: &Record, asked: &Record| first_difference(there, asked).unwrap();
        let mut moved = Record { model: "elsewhere/tiny".into(), batch: 4, ..record() };
        assert_eq!(difference(&record(), &moved), None);
        moved.seed = 8;
        moved.sampling.steps = 20;
        assert_eq!(difference(&record(), &moved), Some(("seed".to_string(), 7.into(), 8.into())));
        let tiled = Record { vae_tiling: Some(true), ..record() };
        assert_eq!(difference(&tiled, &record()), None);
        assert_eq!(difference(&record(), &tiled).unwrap().0, "vae_tiling");
    }

    #[test]
    fn a_key_that_an_older_version_did_not_write_is_named() {
        let text = record().to_json().unwrap().replace("\"steps\":50", "\"other\":1");
        let older: Record = serde_json::from_str(&text).unwrap();
        assert_eq!(first_difference(&older, &record()).unwrap().unwrap().0, "steps");
    }
}
