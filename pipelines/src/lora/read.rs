//! Reading LoRA files: PEFT naming, diffusers' older two, and kohya's. What is not understood is refused by name:
//! a part that is skipped in silence gives a wrong picture.

use super::write::kohya_name;
use super::{LoraModule, LoraWeights, check_shapes};
use crate::error::{Error, Result};
use crate::models::UNet2DConditionModel;
use crate::weights::TensorFile;
use serde_json::{Map, Value};
use std::collections::BTreeMap;
use std::path::Path;
use tch::{Kind, Tensor};

/// What parts of other adapters are called in files, and what they are.
const REFUSED: [(&str, &str); 20] = [
    (".dora_scale", "DoRA"),
    (".lora_magnitude_vector", "DoRA"),
    (".hada_", "LoHa"),
    (".lokr_", "LoKr"),
    (".lora_mid.", "a Tucker-decomposed LoRA"),
    (".oft_", "OFT"),
    (".a1.", "GLoRA"),
    (".a2.", "GLoRA"),
    (".b1.", "GLoRA"),
    (".b2.", "GLoRA"),
    (".on_input", "IA3"),
    (".diff_b", "a full difference"),
    (".diff", "a full difference"),
    (".w_norm", "a full difference"),
    (".b_norm", "a full difference"),
    (".set_weight", "a full difference"),
    (".reshape_weight", "a full difference"),
    (".lora_B.bias", "a LoRA with bias"),
    (".lora_up.bias", "a LoRA with bias"),
    ("bundle_emb.", "a bundled embedding"),
];

/// Ends of tensor names, and whether the tensor is the first matrix (A, down) or the second (B, up).
const PARTS: [(&str, Part); 11] = [
    (".lora_A.weight", Part::A),
    (".lora_B.weight", Part::B),
    (".lora_down.weight", Part::A),
    (".lora_up.weight", Part::B),
    ("_lora.down.weight", Part::A),
    ("_lora.up.weight", Part::B),
    (".lora.down.weight", Part::A),
    (".lora.up.weight", Part::B),
    (".lora_linear_layer.down.weight", Part::A),
    (".lora_linear_layer.up.weight", Part::B),
    (".alpha", Part::Alpha),
];

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Part {
    A,
    B,
    Alpha,
}

#[derive(Default)]
struct Found {
    a: Option<Tensor>,
    b: Option<Tensor>,
    alpha: Option<f64>,
}

impl LoraWeights {
    /// Reads a LoRA for `unet` from a file, or from a folder that holds `pytorch_lora_weights.safetensors` or a PEFT
    /// adapter. float32 on the network's device.
    pub fn read(path: &Path, unet: &UNet2DConditionModel) -> Result<Self> {
        let adapter = path.join("adapter_model.safetensors");
        if adapter.is_file() {
            let config_path = path.join("adapter_config.json");
            let text = std::fs::read_to_string(&config_path).map_err(|e| Error::io("read", &config_path, e))?;
            let scales = Scales::parse(&config_path, &text, "")?;
            return read_file(&TensorFile::open(&adapter)?, Some(scales), unet);
        }
        let file = if path.is_dir() { path.join("pytorch_lora_weights.safetensors") } else { path.to_path_buf() };
        let file = TensorFile::open(&file)?;
        let metadata = file.metadata().get("lora_adapter_metadata");
        let scales = metadata.map(|text| Scales::parse(file.path(), text, "unet.")).transpose()?;
        read_file(&file, scales, unet)
    }
}

fn read_file(file: &TensorFile, scales: Option<Scales>, unet: &UNet2DConditionModel) -> Result<LoraWeights> {
    let by_kohya_name: BTreeMap<String, &String> =
        unet.linear_shapes().keys().map(|path| (kohya_name(path), path)).collect();
    let mut found: BTreeMap<String, Found> = BTreeMap::new();
    for name in file.names() {
        let (stored, part) = split(file.path(), name)?;
        let kohya = stored.starts_with("lora_unet_");
        let path = match by_kohya_name.get(stored) {
            Some(path) => (*path).clone(),
            None => module_path(stored),
        };
        if part == Part::Alpha && !kohya {
            let problem = format!("{name} is a scale under PEFT naming, which no program reads");
            return Err(Error::unusable(
                file.path(),
                problem,
                "fold alpha / rank into lora_B and drop the .alpha tensors",
            ));
        }
        let tensor = file.tensor(name)?.f_to_kind(Kind::Float)?;
        let module = found.entry(path).or_default();
        match part {
            Part::A => module.a = Some(tensor),
            Part::B => module.b = Some(tensor),
            Part::Alpha if tensor.numel() == 1 => module.alpha = Some(tensor.view([]).double_value(&[])),
            Part::Alpha => {
                let problem = format!("{name} has {} numbers, expected one", tensor.numel());
                return Err(Error::unusable(file.path(), problem, "make the file again"));
            }
        }
    }
    if found.is_empty() {
        return Err(Error::unusable(file.path(), "the file holds no tensors", "make the file again"));
    }
    let modules = found.into_iter().map(|(path, found)| {
        let module = assemble(file.path(), &path, found, scales.as_ref(), unet)?;
        Ok((path, module))
    });
    Ok(LoraWeights { modules: modules.collect::<Result<_>>()? })
}

fn split<'a>(file: &Path, name: &'a str) -> Result<(&'a str, Part)> {
    let text_encoder = ["lora_te", "text_encoder"].iter().any(|start| name.starts_with(start));
    let known = PARTS.iter().find_map(|(end, part)| Some((name.strip_suffix(end)?, *part)));
    match known.filter(|_| !text_encoder) {
        Some(known) => Ok(known),
        None => {
            let other = REFUSED.iter().find(|(mark, _)| name.contains(mark));
            let what =
                if text_encoder { "a LoRA of the text encoder" } else { other.map_or("no LoRA known here", |o| o.1) };
            let problem = format!("{name} belongs to {what}, which is not implemented");
            Err(Error::unusable(file, problem, "use a plain LoRA of the UNet in PEFT (diffusers) or kohya naming"))
        }
    }
}

/// The module path in a name of diffusers or PEFT.
fn module_path(stored: &str) -> String {
    let path =
        ["base_model.model.", "unet."].iter().fold(stored, |path, start| path.strip_prefix(start).unwrap_or(path));
    let path = path.replace(".processor.", ".");
    // The oldest naming leaves out that to_out is a list.
    if path.ends_with(".to_out") { format!("{path}.0") } else { path }
}

fn assemble(
    file: &Path,
    path: &str,
    found: Found,
    scales: Option<&Scales>,
    unet: &UNet2DConditionModel,
) -> Result<LoraModule> {
    let (Some(a), Some(b)) = (found.a, found.b) else {
        let problem = format!("{path} has only one of its two matrices");
        return Err(Error::unusable(file, problem, "make or download the file again"));
    };
    let weight = unet.linear_shapes().get(path);
    check_shapes(path, &a.size(), &b.size(), weight)
        .map_err(|problem| Error::unusable(file, problem, "use a LoRA that was trained on this model's family"))?;
    let rank = a.size().first().copied().unwrap_or(1) as f64;
    let scale = match (found.alpha, scales) {
        (Some(alpha), _) => alpha / rank,
        (None, Some(scales)) => scales.of(path, rank),
        (None, None) => 1.0,
    };
    let device = unet.device();
    Ok(LoraModule { a: a.f_to_device(device)?, b: b.f_to_device(device)?, scale })
}

/// PEFT's alphas, from `lora_adapter_metadata` or adapter_config.json.
struct Scales {
    alpha: f64,
    alphas: Map<String, Value>,
    by_root: bool,
}

impl Scales {
    /// `prefix` stands before every key: `unet.` in diffusers' metadata.
    fn parse(path: &Path, text: &str, prefix: &str) -> Result<Self> {
        let values: Map<String, Value> =
            serde_json::from_str(text).map_err(|source| Error::Json { path: path.into(), source })?;
        let get = |key: &str| values.get(&format!("{prefix}{key}")).filter(|value| !value.is_null());
        for key in ["use_dora", "use_qalora", "lora_bias"] {
            if get(key).is_some_and(|value| value != &Value::Bool(false)) {
                return Err(Error::config(path, key, "false: nothing else is implemented", "true"));
            }
        }
        if let Some(bias) = get("bias").filter(|bias| bias.as_str() != Some("none")) {
            return Err(Error::config(path, "bias", "\"none\": nothing else is implemented", bias.to_string()));
        }
        let alpha = match get("lora_alpha") {
            // PEFT's own default, whatever the rank is
            None => 8.0,
            Some(value) => {
                let alpha = value.as_f64().filter(|alpha| alpha.is_finite());
                alpha.ok_or_else(|| Error::config(path, "lora_alpha", "a number", value.to_string()))?
            }
        };
        let alphas = get("alpha_pattern").and_then(Value::as_object).cloned().unwrap_or_default();
        Ok(Self { alpha, alphas, by_root: get("use_rslora").and_then(Value::as_bool).unwrap_or(false) })
    }

    fn of(&self, path: &str, rank: f64) -> f64 {
        let own = self.alphas.iter().find(|(pattern, _)| super::matches(path, pattern));
        let alpha = own.and_then(|(_, value)| value.as_f64()).unwrap_or(self.alpha);
        alpha / if self.by_root { rank.sqrt() } else { rank }
    }
}
