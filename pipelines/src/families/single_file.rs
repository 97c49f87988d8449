//! A checkpoint in one file, seen as a model folder: its tensors under diffusers' names, with the descriptions that
//! the file lacks.

use super::declaration::{Declaration, TextPart};
use super::layout::{NETWORK, Place, Shapes, VAE, places};
use super::recognise::{family, is_harmless, noise};
use super::registry::of_key;
use super::standard::{descriptions, tokenizer};
use crate::error::{Error, Result};
use crate::models::{ClipTextConfig, ConfigFile, VaeConfig};
use crate::weights::{TensorFile, WeightStore};
use serde_json::{Map, Value};
use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::Arc;

/// Header key of the descriptions of an exported model. With it a model of unusual shape, or with a scheduler of its
/// own, is restored exactly.
pub const HEADER: &str = "diffpref.model";
/// Largest number of names listed in a message.
const LISTED: usize = 5;

/// The file, its descriptions by name (`unet/config.json`), and the places of its tensors.
#[derive(Debug)]
pub struct SingleFile {
    file: Arc<TensorFile>,
    texts: BTreeMap<String, String>,
    places: Vec<Place>,
}

impl SingleFile {
    /// Opens a checkpoint: recognises it, and checks that every tensor exists in its shape. No weights are read.
    pub fn open(path: &Path) -> Result<Self> {
        let file = Arc::new(TensorFile::open(path)?);
        let (declaration, texts) = match file.metadata().get(HEADER) {
            Some(text) => described(path, text)?,
            None => {
                let declaration = family(&file)?;
                (declaration, descriptions(declaration, noise(&file, declaration)?)?)
            }
        };
        let places = places_in(&file, declaration, &texts)?;
        Ok(Self { file, texts, places })
    }

    pub fn path(&self) -> &Path {
        self.file.path()
    }

    /// The names of all descriptions.
    pub fn texts(&self) -> impl Iterator<Item = &str> {
        self.texts.keys().map(String::as_str)
    }

    pub fn text(&self, name: &str) -> Option<String> {
        self.texts.get(name).cloned()
    }

    /// The tensors of a component under diffusers' names.
    pub fn store(&self, component: &str) -> WeightStore {
        let own = self.places.iter().filter(|place| place.component == component);
        WeightStore::of_places(&self.file, own.map(|place| (place.name.clone(), place.stored.clone(), place.form)))
    }
}

/// Layout and descriptions in a header: `{"layout": "sd1" | "sd2" | "sdxl", "files": {name: text}}`.
fn described(path: &Path, text: &str) -> Result<(&'static Declaration, BTreeMap<String, String>)> {
    let damaged = || {
        let problem = format!("its header's {HEADER} is not what this program writes there");
        Error::unusable(path, problem, "export the model again")
    };
    let mut header: Map<String, Value> = serde_json::from_str(text).map_err(|_| damaged())?;
    let declaration = header.get("layout").and_then(Value::as_str).and_then(of_key).ok_or_else(damaged)?;
    let Some(Value::Object(files)) = header.remove("files") else { return Err(damaged()) };
    let text = |(name, text): (String, Value)| text.as_str().map(|text| (name, text.to_string())).ok_or_else(damaged);
    let mut texts: BTreeMap<String, String> = files.into_iter().map(text).collect::<Result<_>>()?;
    // CLIP's own vocabulary is left out of headers.
    let usual = tokenizer("").into_iter().filter(|(name, _)| ["merges.txt", "vocab.json"].contains(name));
    let usual: Vec<_> = usual.collect();
    for folder in declaration.text.iter().map(|part| part.tokenizer) {
        let has = |name: &str| texts.contains_key(&format!("{folder}/{name}"));
        if has("tokenizer_config.json") && !has("tokenizer.json") {
            let missing: Vec<_> = usual.iter().filter(|(name, _)| !has(name)).cloned().collect();
            texts.extend(missing.into_iter().map(|(name, text)| (format!("{folder}/{name}"), text)));
        }
    }
    Ok((declaration, texts))
}

fn places_in(
    file: &TensorFile,
    declaration: &'static Declaration,
    texts: &BTreeMap<String, String>,
) -> Result<Vec<Place>> {
    let config = |component: &str| {
        let name = format!("{component}/config.json");
        let text = texts.get(&name).ok_or_else(|| Error::missing(file.path(), &name, "export the model again"))?;
        ConfigFile::parse(&file.path().join(&name), text)
    };
    let network = (declaration.network.describe)(config(declaration.network.component)?)?;
    let vae = VaeConfig::from_file(config("vae")?)?;
    let text = declaration.text.iter().map(|part| ClipTextConfig::from_file(config(part.encoder)?));
    let text = text.collect::<Result<Vec<_>>>()?;
    let shapes = Shapes { network: &*network, vae: &vae, text: &text };
    let mut places = places(declaration, shapes, &|part| prefix_in(file, part))?;
    drop_text_model(file, declaration, &mut places);
    check(file, declaration, &places)?;
    Ok(places)
}

/// The prefix that a file uses for a text encoder.
fn prefix_in(file: &TensorFile, part: &TextPart) -> String {
    let used = part.prefixes.iter().find(|prefix| file.names().any(|name| name.starts_with(**prefix)));
    used.or(part.prefixes.first()).map(|prefix| (*prefix).to_string()).unwrap_or_default()
}

/// Some files leave `text_model.` out of transformers' names.
fn drop_text_model(file: &TensorFile, declaration: &Declaration, places: &mut [Place]) {
    let plain = |component: &str| declaration.text.iter().any(|text| text.encoder == component && !text.openclip);
    for place in places.iter_mut().filter(|place| plain(place.component)) {
        let short = place.stored.replace("transformer.text_model.", "transformer.");
        if file.shape(&place.stored).is_none() && file.shape(&short).is_some() {
            place.stored = short;
        }
    }
}

/// Compares the tensors of a file with those of its family; one error lists all differences.
fn check(file: &TensorFile, declaration: &Declaration, places: &[Place]) -> Result<()> {
    let refuse = |problem: String, hint: &str| Err(Error::unusable(file.path(), problem, hint));
    let wanted: BTreeSet<&str> = places.iter().map(|place| place.stored.as_str()).collect();
    let missing: Vec<&str> = wanted.iter().copied().filter(|name| file.shape(name).is_none()).collect();
    let lacks = |prefix: &str| !file.names().any(|name| name.starts_with(prefix));
    if lacks(VAE) {
        return refuse("it holds no VAE (first_stage_model.)".into(), "use the full checkpoint, not the UNet alone");
    }
    if let Some(part) = declaration.text.iter().find(|part| part.prefixes.iter().all(|prefix| lacks(prefix))) {
        let problem = format!("it holds no text encoder ({})", part.prefixes.join(" or "));
        return refuse(problem, "use the full checkpoint, not the UNet alone");
    }
    if let Some(name) = missing.iter().find(|name| name.starts_with(NETWORK)) {
        let problem =
            format!("this is a distilled model (SSD-1B, Vega, KOALA, BK-SDM), or a damaged one: {name} is missing");
        return refuse(problem, "use the model that it was distilled from");
    }
    if !missing.is_empty() {
        return refuse(format!("{} tensors are missing: {}", missing.len(), some(&missing)), "download the file again");
    }
    for place in places {
        let stored = file.shape(&place.stored).unwrap_or_default();
        if place.form.shape_of(stored) != place.shape {
            let expected = place.form.stored_shape(&place.shape);
            let problem = format!("{} has the shape {stored:?}, expected {expected:?}", place.stored);
            return refuse(problem, "the model is of another architecture; use a model folder with its config.json");
        }
    }
    let unused =
        |name: &&str| !wanted.contains(name) && !is_harmless(name) && !is_unused_block(name, declaration, &wanted);
    let extra: Vec<&str> = file.names().filter(unused).collect();
    match extra[..] {
        [] => Ok(()),
        _ => refuse(
            format!("{} tensors belong to no part that is known: {}", extra.len(), some(&extra)),
            "the model has parts that this program would leave out; use the model it was made from",
        ),
    }
}

fn some(names: &[&str]) -> String {
    let more = if names.len() > LISTED { ", .." } else { "" };
    format!("{}{more}", names.iter().take(LISTED).copied().collect::<Vec<_>>().join(", "))
}

/// Some families' files hold one block of OpenCLIP more than the model uses.
fn is_unused_block(name: &str, declaration: &Declaration, wanted: &BTreeSet<&str>) -> bool {
    let unused = declaration.single_file.has_unused_text;
    let blocks = declaration.text.iter().filter(|part| part.openclip && unused);
    blocks.flat_map(|part| part.prefixes).any(|prefix| {
        let block = name.strip_prefix(prefix).and_then(|rest| rest.strip_prefix("transformer.resblocks."));
        let number = block.and_then(|rest| rest.split('.').next()).and_then(|number| number.parse::<usize>().ok());
        let last_used = |n: usize| wanted.contains(format!("{prefix}transformer.resblocks.{n}.ln_1.weight").as_str());
        number.is_some_and(|n| n > 0 && !last_used(n) && last_used(n - 1))
    })
}

#[cfg(test)]
#[path = "single_file_tests.rs"]
mod tests;
