//! CLIP with both towers, read from a folder: features of pictures and of texts in one space.

use super::config::ClipConfig;
use super::layout::Layout;
use super::open_clip;
use super::text::ClipTextModel;
use super::vision::ClipVisionModel;
use crate::error::{Error, Result};
use crate::models::config::ConfigFile;
use crate::models::layers::Linear;
use crate::weights::original::{Form, openclip_place};
use crate::weights::{LoadOptions, Loader, ParameterShapes, TensorFile, WeightStore};
use std::collections::BTreeSet;
use std::path::Path;
use std::sync::Arc;
use tch::{Kind, Tensor};

/// File of the weights.
pub(super) const WEIGHTS: &str = "model.safetensors";

/// Both towers and their projections into a common space of width P.
#[derive(Debug)]
pub struct ClipModel {
    text: ClipTextModel,
    vision: ClipVisionModel,
    visual_projection: Linear,
    projection: i64,
    /// Logarithm of the factor of cosines, a scalar.
    logit_scale: Tensor,
}

impl ClipModel {
    /// Reads a folder with model.safetensors and, in the layout of transformers, config.json. A folder in OpenCLIP's
    /// layout has config.json or open_clip_config.json; a published ViT-H or ViT-bigG needs neither.
    ///
    /// # Errors
    /// Missing files; weights of another architecture.
    pub fn load(dir: &Path, options: &LoadOptions) -> Result<Self> {
        let (config, store) = open_store(dir, None)?;
        let loader = Loader::new(store, options);
        let clip = Self::build(&config, &loader);
        loader.finish()?;
        Ok(clip)
    }

    /// The model from tensors with the names of transformers.
    pub fn build(config: &ClipConfig, from: &Loader) -> Self {
        let width = config.vision.blocks.width;
        Self {
            text: ClipTextModel::build(config.text.clone(), from),
            vision: ClipVisionModel::build(config.vision.clone(), from),
            visual_projection: Linear::load(&from.sub("visual_projection"), width, config.projection, false),
            projection: config.projection,
            logit_scale: from.tensor("logit_scale", &[]),
        }
    }

    /// The names and shapes of all parameters, sorted by name.
    pub fn parameter_shapes(config: &ClipConfig) -> ParameterShapes {
        let loader = Loader::describing();
        Self::build(config, &loader);
        loader.shapes()
    }

    /// Width P of the features.
    pub fn width(&self) -> i64 {
        self.projection
    }

    /// Side of the pictures in pixels.
    pub fn image_size(&self) -> i64 {
        self.vision.config().image_size
    }

    /// Longest text in tokens, start and end included.
    pub fn max_length(&self) -> i64 {
        self.text.config().max_length
    }

    /// The factor of cosines: 100 in published models.
    pub fn scale(&self) -> f64 {
        self.logit_scale.to_kind(Kind::Double).exp().double_value(&[])
    }

    /// Features `[B, P]` of pictures `[B, 3, S, S]`, not normalised.
    pub fn picture_features(&self, pixels: &Tensor) -> Result<Tensor> {
        Ok(self.visual_projection.forward(&self.vision.forward(pixels)?.pooled, None))
    }

    /// Every position of pictures `[B, 3, S, S]` in the common space, class token first, without the tower's last
    /// norm: `[B, 1 + patches, P]`.
    pub fn picture_positions(&self, pixels: &Tensor) -> Result<Tensor> {
        Ok(self.visual_projection.forward(&self.vision.forward(pixels)?.last_hidden_state, None))
    }

    /// Features `[B, P]` of token ids `[B, L]`, at the end token, not normalised.
    pub fn text_features(&self, ids: &Tensor) -> Result<Tensor> {
        Ok(self.text.forward(ids, None)?.pooled)
    }

    /// Every position of texts in the common space `[B, L, P]`, and the features at the end token `[B, P]`.
    pub fn text_positions(&self, ids: &Tensor) -> Result<(Tensor, Tensor)> {
        let output = self.text.forward(ids, None)?;
        Ok((self.text.project(&output.last_hidden_state), output.pooled))
    }
}

/// The configuration and the weights of a folder, under the names of transformers. `own`: start of further names that
/// the caller reads from the same file.
///
/// # Errors
/// Missing files; weights of another architecture.
pub fn open_store(dir: &Path, own: Option<&str>) -> Result<(ClipConfig, WeightStore)> {
    let path = dir.join(WEIGHTS);
    if !path.is_file() {
        return Err(without_weights(dir));
    }
    let file = Arc::new(TensorFile::open(&path)?);
    let layout = Layout::of(&file, own)?;
    let config = config(dir, &file, layout)?;
    let store = match layout {
        Layout::Transformers { prefix } => {
            let mut store = WeightStore::from_file(&path)?;
            store.rename(|name| {
                let name = name.strip_prefix(prefix).unwrap_or(name);
                (!name.ends_with("embeddings.position_ids")).then(|| name.to_string())
            });
            store
        }
        Layout::OpenClip { text } => renamed(&file, &config, text),
    };
    Ok((config, store))
}

fn config(dir: &Path, file: &TensorFile, layout: Layout) -> Result<ClipConfig> {
    let (ours, theirs) = (dir.join("config.json"), dir.join(open_clip::CONFIG));
    match layout {
        _ if ours.is_file() => ClipConfig::from_file(&ConfigFile::read_file(&ours)?),
        _ if theirs.is_file() => open_clip::read(&theirs),
        Layout::OpenClip { text } => open_clip::known(file, text),
        Layout::Transformers { .. } => {
            Err(Error::missing(dir, "config.json", "copy it from the repository of the weights"))
        }
    }
}

/// Tensors of OpenCLIP under the names of transformers. Tensors without a place keep their names, so that the loader
/// refuses them.
fn renamed(file: &Arc<TensorFile>, config: &ClipConfig, text: &str) -> WeightStore {
    let place = |(name, _): (String, Vec<i64>)| {
        let (theirs, form) = openclip_place(&name)?;
        let is_text = name.starts_with("text_");
        Some((name, if is_text { format!("{text}{theirs}") } else { theirs }, form))
    };
    let mut places: Vec<(String, String, Form)> =
        ClipModel::parameter_shapes(config).into_iter().filter_map(place).collect();
    let placed: BTreeSet<&str> = places.iter().map(|(_, theirs, _)| theirs.as_str()).collect();
    // Numbers that OpenAI's own files hold beside the weights.
    let counts = ["context_length", "input_resolution", "vocab_size"];
    let left = file.names().filter(|name| !placed.contains(name) && !counts.contains(name));
    let left: Vec<_> = left.map(|name| (name.to_string(), name.to_string(), Form::Same)).collect();
    places.extend(left);
    WeightStore::of_places(file, places)
}

/// The remedy for a folder without weights, by the files in it.
fn without_weights(dir: &Path) -> Error {
    let entries = match std::fs::read_dir(dir) {
        Ok(entries) => entries,
        Err(error) => return Error::io("read the folder", dir, error),
    };
    let mut names: Vec<String> = entries.flatten().filter_map(|entry| entry.file_name().into_string().ok()).collect();
    names.sort();
    let with = |ends: &[&str]| names.iter().find(|name| ends.iter().any(|end| name.ends_with(end)));
    let hint = match (with(&[".bin", ".pt", ".pth", ".ckpt"]), with(&[".safetensors"])) {
        (Some(pickle), _) => {
            format!("{pickle} is a pickle, which can run code and is never loaded: convert it as in docs/scorers.md")
        }
        (None, Some(other)) => format!("there is {other}: if it holds the CLIP, rename it to {WEIGHTS}"),
        (None, None) => "docs/scorers.md says how to make the folder".to_string(),
    };
    Error::missing(dir, WEIGHTS, hint)
}
