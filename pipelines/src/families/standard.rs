//! Descriptions common to all models of a family, which single-file checkpoints lack: configurations and CLIP's
//! tokenizer.

use super::declaration::Declaration;
use crate::error::{Error, Result};
use crate::schedulers::PredictionType;
use crate::text::Tokenizer;
use serde_json::{Map, Value, json};
use std::collections::BTreeMap;
use std::path::Path;

/// CLIP's merges in the order of learning (`assets/NOTICE`).
const MERGES: &str = include_str!("../../assets/clip-merges.txt");
const START: &str = "<|startoftext|>";
const END: &str = "<|endoftext|>";

/// The noise process found in a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Noise {
    pub prediction: PredictionType,
    pub zero_terminal_snr: bool,
}

/// Every description of a model of the family by its name in a model folder, for example `unet/config.json`.
pub fn descriptions(declaration: &'static Declaration, noise: Noise) -> Result<BTreeMap<String, String>> {
    let damaged = |e: serde_json::Error| Error::Invalid(format!("the program's own configurations are damaged: {e}"));
    let mut files: Map<String, Value> = serde_json::from_str(declaration.single_file.descriptions).map_err(damaged)?;
    if let Some(scheduler) = files.get_mut("scheduler/scheduler_config.json") {
        scheduler["prediction_type"] = json!(noise.prediction.name());
        if noise.zero_terminal_snr {
            scheduler["rescale_betas_zero_snr"] = json!(true);
        }
    }
    let network = files.get_mut(&format!("{}/config.json", declaration.network.component));
    if let (Some(side), Some(network)) = (declaration.family(noise.prediction).variant.native_side, network) {
        network["sample_size"] = json!(side);
    }
    let mut texts: BTreeMap<String, String> =
        files.into_iter().map(|(name, value)| (name, format!("{value:#}\n"))).collect();
    for part in declaration.text {
        for (name, text) in tokenizer(part.pad) {
            texts.insert(format!("{}/{name}", part.tokenizer), text);
        }
    }
    Ok(texts)
}

/// CLIP's published tokenizer, padded with the end token. `length`: see [`Tokenizer::open`].
///
/// # Errors
/// A program whose own vocabulary is damaged.
pub fn clip_tokenizer(length: i64) -> Result<Tokenizer> {
    let files = BTreeMap::from(tokenizer(END));
    let text = |name: &str| Ok(files.get(name).cloned());
    Tokenizer::from_texts(Path::new("the tokenizer of CLIP"), &text, length)
}

/// The files of CLIP's tokenizer as transformers reads them.
pub fn tokenizer(pad: &str) -> [(&'static str, String); 4] {
    let added = |content: &str| json!({"content": content, "lstrip": false, "normalized": true, "rstrip": false, "single_word": false});
    let special = json!({
        "bos_token": added(START), "eos_token": added(END), "pad_token": pad, "unk_token": added(END),
    });
    let mut config = json!({
        "add_prefix_space": false, "do_lower_case": true, "errors": "replace", "model_max_length": 77,
        "tokenizer_class": "CLIPTokenizer",
    });
    for (key, value) in special.as_object().into_iter().flatten() {
        config[key] = value.clone();
    }
    [
        ("merges.txt", MERGES.to_string()),
        ("special_tokens_map.json", format!("{special:#}\n")),
        ("tokenizer_config.json", format!("{config:#}\n")),
        ("vocab.json", Value::Object(vocabulary()).to_string()),
    ]
}

/// CLIP's vocabulary follows from its merges (`simple_tokenizer.py` of the published code): the symbols of all bytes,
/// those symbols at the end of a word, the result of every merge, and the two ends of a prompt.
fn vocabulary() -> Map<String, Value> {
    let symbols = byte_symbols();
    let ends = symbols.iter().map(|symbol| format!("{symbol}</w>"));
    let merged = MERGES.lines().skip(1).map(|line| line.replacen(' ', "", 1));
    let words = symbols.iter().map(char::to_string).chain(ends).chain(merged);
    let words = words.chain([START.to_string(), END.to_string()]);
    words.enumerate().map(|(id, word)| (word, json!(id))).collect()
}

/// GPT-2's letters for bytes: printable bytes represent themselves, the others follow from U+0100 on.
fn byte_symbols() -> Vec<char> {
    let prints = |byte: &u32| matches!(byte, 33..=126 | 161..=172 | 174..=255);
    let others = (0..256).filter(|byte| !prints(byte)).count() as u32;
    (0..256).filter(prints).chain(256..256 + others).filter_map(char::from_u32).collect()
}
