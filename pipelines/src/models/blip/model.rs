//! Both towers of ImageReward's BLIP, read from a folder.

use super::text::{Text, TextShape};
use super::vision::{Vision, VisionShape};
use crate::error::{Error, Result};
use crate::models::config::ConfigFile;
use crate::models::converted::{WEIGHTS, require_weights};
use crate::models::look_alike::look_alike;
use crate::weights::{Loader, WeightStore};
use std::path::Path;
use tch::Tensor;

const CONFIG: &str = "med_config.json";
const VISION: &str = "blip.visual_encoder";
const TEXT: &str = "blip.text_encoder";
/// Parts of the file that ImageReward does not use.
const UNUSED: [&str; 3] = ["blip.vision_proj.", "blip.text_proj.", "blip.text_encoder.embeddings.position_ids"];
const EXPECTED: &str = "expected ImageReward's BLIP with its head, converted as in docs/scorers.md";

/// Shape of both towers.
#[derive(Debug, Clone, Copy)]
pub struct BlipShape {
    vision: VisionShape,
    text: TextShape,
}

impl BlipShape {
    /// Width D of the features.
    pub fn width(&self) -> i64 {
        self.text.width
    }
}

/// The shape and the weights of a folder with model.safetensors and med_config.json. The names of the weights are those
/// of ImageReward.pt.
///
/// # Errors
/// Missing files; weights of another architecture.
pub fn open_store(dir: &Path) -> Result<(BlipShape, WeightStore)> {
    require_weights(dir, "ImageReward")?;
    let mut store = WeightStore::from_file(&dir.join(WEIGHTS))?;
    store.rename(|name| (!UNUSED.iter().any(|unused| name.starts_with(unused))).then(|| name.to_string()));
    let is_there = |name: &str| store.shape(name).is_some();
    let parts = [format!("{VISION}.cls_token"), format!("{TEXT}.embeddings.word_embeddings.weight")];
    if !(parts.iter().all(|name| is_there(name)) && is_there("mlp.layers.0.weight")) {
        return Err(refused(&store));
    }
    let path = dir.join(CONFIG);
    if !path.is_file() {
        return Err(Error::missing(dir, CONFIG, "copy it from the repository of the weights"));
    }
    let text = TextShape::from_file(&ConfigFile::read_file(&path)?)?;
    Ok((BlipShape { vision: VisionShape::of(&store, VISION)?, text }, store))
}

fn refused(store: &WeightStore) -> Error {
    let names: Vec<&str> = store.names().collect();
    let starts = |start: &str| names.iter().any(|name| name.starts_with(start));
    let problem = match look_alike(&names) {
        _ if starts("visual.class_embedding") || (starts("vision_model.") && starts("text_model.")) => {
            "this looks like a CLIP: take the scorer \"clip\", \"pickscore\" or \"hpsv2\"".into()
        }
        _ if starts("blip.") => "this is a BLIP without the head of ImageReward (mlp.layers)".into(),
        Some(what) => format!("this looks like {what}"),
        None => {
            let first = names.first().copied().unwrap_or("nothing");
            format!("this is no BLIP with a head ({} tensors, the first is {first})", names.len())
        }
    };
    Error::unusable(store.path(), problem, EXPECTED)
}

/// A picture and a text, read together.
#[derive(Debug)]
pub struct BlipModel {
    vision: Vision,
    text: Text,
    image_size: i64,
}

impl BlipModel {
    pub fn load(from: &Loader, shape: BlipShape) -> Self {
        Self {
            vision: Vision::load(&from.sub(VISION), shape.vision),
            text: Text::load(&from.sub(TEXT), shape.text, shape.vision.width),
            image_size: shape.vision.image_size(),
        }
    }

    /// Side of the pictures in pixels.
    pub fn image_size(&self) -> i64 {
        self.image_size
    }

    /// Longest text in tokens that has positions.
    pub fn max_length(&self) -> i64 {
        self.text.shape().positions
    }

    /// Every position of pictures `[B, 3, S, S]`: `[B, N, D']`.
    ///
    /// # Errors
    /// Pixels of another shape.
    pub fn pictures(&self, pixels: &Tensor) -> Result<Tensor> {
        self.vision.forward(pixels)
    }

    /// Features `[B, D]` of texts `[B, L]` that read pictures `[B, N, D']`.
    ///
    /// # Errors
    /// Token ids outside the vocabulary; texts that are too long.
    pub fn features(&self, ids: &Tensor, pictures: &Tensor) -> Result<Tensor> {
        self.text.forward(ids, pictures)
    }
}
