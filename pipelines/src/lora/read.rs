//! Reading LoRA files: PEFT naming, diffusers' older two, and kohya's. Unknown tensors are refused by name: a
//! silently skipped part gives a wrong picture.

use super::file::Lora;
use super::targets::{LoraTargets, Network};
use super::weights::{LoraModule, LoraWeights, adapter_shapes, check_shapes, matches};
use crate::error::{Error, Result};
use crate::families::family_of_context_width;
use crate::weights::TensorFile;
use serde_json::{Map, Value};
use std::collections::{BTreeMap, HashMap};
use std::path::{Path, PathBuf};
use tch::{Kind, Tensor};

/// Names of other adapters' parts in files, and the kind of adapter.
const REFUSED: [(&str, &str); 20] = [
    (".dora_scale", "DoRA"),
    (".lora_magnitude_vector", "DoRA"),
    (".hada_", "LoHa (LyCORIS)"),
    (".lokr_", "LoKr (LyCORIS)"),
    (".lora_mid.", "a Tucker-decomposed LoRA (LyCORIS)"),
    (".oft_", "OFT (LyCORIS)"),
    (".a1.", "GLoRA (LyCORIS)"),
    (".a2.", "GLoRA (LyCORIS)"),
    (".b1.", "GLoRA (LyCORIS)"),
    (".b2.", "GLoRA (LyCORIS)"),
    (".on_input", "IA3 (LyCORIS)"),
    (".diff_b", "a full difference (LyCORIS)"),
    (".diff", "a full difference (LyCORIS)"),
    (".w_norm", "a full difference (LyCORIS)"),
    (".b_norm", "a full difference (LyCORIS)"),
    (".set_weight", "a full difference (LyCORIS)"),
    (".reshape_weight", "a full difference (LyCORIS)"),
    (".lora_B.bias", "a LoRA with bias"),
    (".lora_up.bias", "a LoRA with bias"),
    ("bundle_emb.", "a bundled embedding"),
];

/// Suffixes of tensor names, and whether the tensor is the first matrix (A, down) or the second (B, up).
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

/// Module names of models without a UNet.
const TRANSFORMERS: [&str; 4] = ["transformer.", "lora_transformer_", "diffusion_model.", "lora_unet_double_blocks"];
/// The weights of a PEFT adapter folder.
const ADAPTER: &str = "adapter_model.safetensors";
const OTHER_FAMILY: &str = "use a LoRA that was trained on this model's family";
const AGAIN: &str = "make or download the file again";

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

impl Lora {
    /// The weight file of a path: itself, or the one in a folder.
    pub fn file_in(path: &Path) -> PathBuf {
        let adapter = path.join(ADAPTER);
        match (adapter.is_file(), path.is_dir()) {
            (true, _) => adapter,
            (false, true) => path.join("pytorch_lora_weights.safetensors"),
            (false, false) => path.to_path_buf(),
        }
    }

    /// Whether a path is a LoRA, by the names of its tensors: of any kind, including refused ones.
    pub fn is_at(path: &Path) -> bool {
        let Ok(file) = TensorFile::open(&Self::file_in(path)) else { return false };
        let is_part = |name: &str| PARTS.iter().any(|(end, part)| *part != Part::Alpha && name.ends_with(end));
        let is_kohya = |name: &str| ["lora_unet_", "lora_te", "lycoris_"].iter().any(|start| name.starts_with(start));
        file.names().any(|name| is_part(name) || is_kohya(name))
    }

    /// Width of the prompt embeddings of a LoRA file's cross-attention, which identifies the family. None for a file
    /// without cross-attention.
    pub fn context_width(file: &TensorFile) -> Option<i64> {
        let is_key = |name: &str| name.contains("attn2") && name.contains("to_k");
        let is_first = |name: &str| PARTS.iter().any(|(end, part)| *part == Part::A && name.ends_with(end));
        let name = file.names().find(|name| is_key(name) && is_first(name))?;
        file.shape(name)?.get(1).copied()
    }

    /// Reads a LoRA for a model from a file, or from a folder with `pytorch_lora_weights.safetensors` or a PEFT
    /// adapter of a UNet (adapter_config.json beside adapter_model.safetensors). float32 on the CPU.
    ///
    /// # Errors
    /// Every unknown tensor and every tensor without a layer of the model, by name; another family; DoRA and LyCORIS
    /// files.
    pub fn read(path: &Path, targets: &LoraTargets) -> Result<Self> {
        let file = Self::file_in(path);
        if path.is_dir() && file.ends_with(ADAPTER) {
            let config_path = path.join("adapter_config.json");
            let text = std::fs::read_to_string(&config_path).map_err(|e| Error::io("read", &config_path, e))?;
            let scales = BTreeMap::from([(Network::Unet, Scales::parse(&config_path, &text, "")?)]);
            return read_file(&TensorFile::open(&file)?, &scales, targets);
        }
        let file = TensorFile::open(&file)?;
        let mut scales = BTreeMap::new();
        if let Some(text) = file.metadata().get("lora_adapter_metadata") {
            for network in [Network::Unet, Network::TextEncoder, Network::TextEncoder2] {
                let prefix = format!("{}.", network.name());
                // A network without keys has the scale 1, as in diffusers.
                if text.contains(&format!("\"{prefix}")) {
                    scales.insert(network, Scales::parse(file.path(), text, &prefix)?);
                }
            }
        }
        read_file(&file, &scales, targets)
    }
}

fn read_file(file: &TensorFile, scales: &BTreeMap<Network, Scales>, targets: &LoraTargets) -> Result<Lora> {
    check_family(file, targets)?;
    let names = targets.names();
    let mut found: BTreeMap<(Network, String), Found> = BTreeMap::new();
    for name in file.names() {
        let (stored, part) = split(file.path(), name)?;
        if part == Part::Alpha && stored.contains('.') {
            let problem = format!("{name} is a scale under PEFT naming, which no program reads");
            let hint = "fold alpha / rank into lora_B and drop the .alpha tensors";
            return Err(Error::unusable(file.path(), problem, hint));
        }
        let (network, path) = look_up(&names, stored).ok_or_else(|| unknown_module(file.path(), stored, targets))?;
        take(file, name, part, found.entry((*network, path.clone())).or_default())?;
    }
    if found.is_empty() {
        return Err(Error::unusable(file.path(), "the file holds no tensors", AGAIN));
    }
    let mut networks: BTreeMap<Network, LoraWeights> = BTreeMap::new();
    for ((network, path), found) in found {
        let module = assemble(file.path(), network, &path, found, scales.get(&network), targets)?;
        networks.entry(network).or_default().modules.insert(path, module);
    }
    let lora = Lora::of_networks(networks);
    lora.check_finite(file.path())?;
    Ok(lora)
}

/// Module and matrix of a tensor's name.
fn split<'a>(file: &Path, name: &'a str) -> Result<(&'a str, Part)> {
    let refused = REFUSED.iter().find(|(mark, _)| name.contains(mark));
    let known = PARTS.iter().find_map(|(end, part)| Some((name.strip_suffix(end)?, *part)));
    match (refused, known) {
        (None, Some(known)) => Ok(known),
        _ => {
            let what = refused.map_or("no LoRA known here", |(_, what)| what);
            let problem = format!("{name} belongs to {what}, which is not implemented");
            Err(Error::unusable(file, problem, "use a plain LoRA in PEFT (diffusers) or kohya naming"))
        }
    }
}

fn look_up<'a>(names: &'a HashMap<String, (Network, String)>, stored: &str) -> Option<&'a (Network, String)> {
    if let Some(found) = names.get(stored) {
        return Some(found);
    }
    // diffusers' oldest naming inserts the attention's processor, and omits the list index of to_out.
    let plain = stored.replace(".processor.", ".");
    let plain = if plain.ends_with(".to_out") { format!("{plain}.0") } else { plain };
    names.get(&plain)
}

fn take(file: &TensorFile, name: &str, part: Part, found: &mut Found) -> Result<()> {
    let tensor = file.tensor(name)?;
    if file.not_floating(name).is_some() && part != Part::Alpha {
        let problem = format!("{name} is {:?} instead of floating point", tensor.kind());
        return Err(Error::unusable(file.path(), problem, AGAIN));
    }
    let tensor = tensor.f_to_kind(Kind::Float)?;
    let twice = match part {
        Part::A => found.a.replace(tensor).is_some(),
        Part::B => found.b.replace(tensor).is_some(),
        Part::Alpha if tensor.numel() == 1 => found.alpha.replace(tensor.f_view([1])?.double_value(&[0])).is_some(),
        Part::Alpha => {
            let problem = format!("{name} has {} numbers, expected one", tensor.numel());
            return Err(Error::unusable(file.path(), problem, AGAIN));
        }
    };
    match twice {
        true => {
            let problem = format!("{name}: the file holds this module twice, in two namings");
            Err(Error::unusable(file.path(), problem, "keep one of them"))
        }
        false => Ok(()),
    }
}

/// Refuses a LoRA of another family, by the width of the prompt embeddings of its cross-attention.
fn check_family(file: &TensorFile, targets: &LoraTargets) -> Result<()> {
    if let Some(name) = file.names().find(|name| TRANSFORMERS.iter().any(|start| name.starts_with(start))) {
        let problem = format!("{name} belongs to a LoRA of a transformer model (such as SD3 or FLUX), not of a UNet");
        return Err(Error::unusable(file.path(), problem, OTHER_FAMILY));
    }
    let width = Lora::context_width(file);
    let expected = targets.context_width();
    match width {
        Some(width) if width != expected => {
            let family = |width| match family_of_context_width(width) {
                Some(name) => format!("{name} ({width} wide prompt embeddings)"),
                None => format!("a model with {width} wide prompt embeddings"),
            };
            let problem =
                format!("this is a LoRA of another architecture: of {}, not of {}", family(width), family(expected));
            Err(Error::unusable(file.path(), problem, OTHER_FAMILY))
        }
        _ => Ok(()),
    }
}

fn unknown_module(file: &Path, stored: &str, targets: &LoraTargets) -> Error {
    let of_text = ["lora_te", "text_encoder"].iter().any(|start| stored.starts_with(start));
    if of_text && !targets.has(Network::TextEncoder) {
        let problem = format!("the LoRA has a part for a text encoder ({stored}), and a UNet alone has none");
        return Error::unusable(file, problem, "give the whole model, or a LoRA of the UNet alone");
    }
    let text = ["lora_te2_", "text_encoder_2."].iter().any(|start| stored.starts_with(start));
    let why = if text { " (the model has no second text encoder, or another one)" } else { "" };
    let problem = format!("the LoRA has the module {stored}, which is no layer of this model{why}");
    Error::unusable(file, problem, OTHER_FAMILY)
}

fn assemble(
    file: &Path,
    network: Network,
    path: &str,
    found: Found,
    scales: Option<&Scales>,
    targets: &LoraTargets,
) -> Result<LoraModule> {
    let (Some(a), Some(b)) = (found.a, found.b) else {
        let problem = format!("{path} has only one of its two matrices");
        return Err(Error::unusable(file, problem, AGAIN));
    };
    let weight = targets.weight_shape(network, path).unwrap_or_default();
    let (a, b) = (in_form_of(a, weight, true)?, in_form_of(b, weight, false)?);
    check_shapes(path, &a.size(), &b.size(), weight).map_err(|problem| Error::unusable(file, problem, OTHER_FAMILY))?;
    let rank = a.size().first().copied().unwrap_or(1) as f64;
    let scale = match (found.alpha, scales) {
        (Some(alpha), _) => alpha / rank,
        (None, Some(scales)) => scales.of(path, rank),
        (None, None) => 1.0,
    };
    if !scale.is_finite() {
        return Err(Error::unusable(file, format!("the scale of {path} is {scale}, expected a number"), AGAIN));
    }
    Ok(LoraModule { a, b, scale })
}

/// A matrix in the form of the layer's weight: programs write 1x1 convolutions as matrices and the reverse.
fn in_form_of(tensor: Tensor, weight: &[i64], first: bool) -> Result<Tensor> {
    let shape = tensor.size();
    let rank = if first { shape.first() } else { shape.get(1) }.copied().unwrap_or_default();
    let (a, b) = adapter_shapes(weight, rank);
    let wanted = if first { a } else { b };
    let matrix = |shape: &[i64]| match *shape {
        [rows, columns, 1, 1] => vec![rows, columns],
        _ => shape.to_vec(),
    };
    match shape != wanted && matrix(&shape) == matrix(&wanted) {
        true => Ok(tensor.f_view(wanted.as_slice())?),
        false => Ok(tensor),
    }
}

/// PEFT's alphas, from `lora_adapter_metadata` or adapter_config.json.
struct Scales {
    alpha: f64,
    alphas: Map<String, Value>,
    by_root: bool,
}

impl Scales {
    /// `prefix` precedes every key: `unet.` in diffusers' metadata.
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
            // PEFT's own default, for every rank
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
        let own = self.alphas.iter().find(|(pattern, _)| matches(path, pattern));
        let alpha = own.and_then(|(_, value)| value.as_f64()).unwrap_or(self.alpha);
        alpha / if self.by_root { rank.sqrt() } else { rank }
    }
}
