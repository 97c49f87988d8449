//! Start values: drawn towers, and which parameters of the towers are trained.

use super::settings::{Model, Tune};
use crate::data::draws;
use crate::heads::{Group, Parameters};
use crate::machine::files::{publish_dir, unfinished_dir};
use crate::scorers::clip_files;
use anyhow::{Context, Result, ensure};
use diffpref_native::Generator;
use pipelines::models::clip::ClipConfig;
use pipelines::models::{ClipModel, ConfigFile};
use pipelines::weights::write_safetensors;
use std::path::Path;
use tch::{Kind, Tensor};

/// Temperature of a drawn CLIP.
const START_TEMPERATURE: f64 = 0.07;
/// Parameter with the logarithm of the factor of cosines.
pub const LOGIT_SCALE: &str = "logit_scale";

/// Writes a CLIP with drawn weights of the shape in `model`/config.json into the folder `target`, with the tokenizer of
/// `model`. Streams `start`, one per tensor.
///
/// # Errors
/// A folder without config.json; one that cannot be written.
pub fn write_random(model: &Path, target: &Path, seed: u64) -> Result<()> {
    let config = ClipConfig::from_file(&ConfigFile::read(model)?).context("model.path")?;
    let tensors: Parameters = ClipModel::parameter_shapes(&config)
        .into_iter()
        .map(|(name, shape)| {
            let tensor = drawn(&config, &name, &shape, seed);
            (name, tensor)
        })
        .collect();
    let parent = target.parent().unwrap_or(Path::new("."));
    let parts = unfinished_dir(parent)?;
    write_safetensors(&parts.path().join("model.safetensors"), &tensors, &[("format", "pt")])?;
    copy_files(model, parts.path())?;
    publish_dir(parts, target)
}

/// Copies configuration and tokenizer of a CLIP.
///
/// # Errors
/// An unreadable file, or a folder that cannot be written.
pub fn copy_files(from: &Path, to: &Path) -> Result<()> {
    for file in clip_files(from) {
        let name = file.file_name().unwrap_or_default();
        std::fs::copy(&file, to.join(name)).with_context(|| format!("cannot copy {}", file.display()))?;
    }
    Ok(())
}

/// Start values as in OpenAI's code (`initialize_parameters` of clip/model.py).
fn drawn(config: &ClipConfig, name: &str, shape: &[i64], seed: u64) -> Tensor {
    let (width, layers) = match name.starts_with("text_") {
        true => (config.text.hidden_size, config.text.layers),
        false => (config.vision.blocks.width, config.vision.layers),
    };
    let (width, depth) = (width as f64, (2.0 * layers as f64).sqrt());
    let is = |part: &str| name.contains(part);
    let std = if name == LOGIT_SCALE {
        return Tensor::full(shape, (1.0 / START_TEMPERATURE).ln(), (Kind::Float, tch::Device::Cpu));
    } else if is("norm") || is("layrnorm") {
        let value = if name.ends_with("weight") { 1.0 } else { 0.0 };
        return Tensor::full(shape, value, (Kind::Float, tch::Device::Cpu));
    } else if name.ends_with("bias") {
        return Tensor::zeros(shape, (Kind::Float, tch::Device::Cpu));
    } else if is("token_embedding") {
        0.02
    } else if is("text_model.embeddings.position_embedding") {
        0.01
    } else if is("out_proj") || is("fc2") {
        width.powf(-0.5) / depth
    } else if is("fc1") {
        (2.0 * width).powf(-0.5)
    } else {
        width.powf(-0.5)
    };
    Generator::cpu(draws::key(seed, "start", &[&name])).randn(shape) * std
}

/// The trained parameters of the towers, decayed and not: vectors and scalars do not decay, as in OpenCLIP's trainer.
///
/// # Errors
/// More blocks than a tower has.
pub fn tower_groups(parameters: &[(String, Tensor)], model: &Model) -> Result<Vec<Group>> {
    let trained: Vec<(String, Tensor)> = match model.tune {
        Tune::Head => Vec::new(),
        Tune::Towers => copies(parameters, &|_| true),
        Tune::Blocks => {
            let image = first_trained(parameters, "vision_model", model.image_blocks)?;
            let text = first_trained(parameters, "text_model", model.text_blocks)?;
            copies(parameters, &|name| name == LOGIT_SCALE || is_late(name, image, text))
        }
    };
    let (matrices, vectors): (Parameters, Parameters) = trained.into_iter().partition(|(_, t)| t.dim() >= 2);
    let groups = [Group::plain(matrices), Group { weight_decay: Some(0.0), ..Group::plain(vectors) }];
    Ok(groups.into_iter().filter(|group| !group.parameters.is_empty()).collect())
}

fn copies(parameters: &[(String, Tensor)], wanted: &dyn Fn(&str) -> bool) -> Parameters {
    let of = |(name, tensor): &(String, Tensor)| wanted(name).then(|| (name.clone(), tensor.shallow_clone()));
    parameters.iter().filter_map(of).collect()
}

/// Number of the first trained block of a tower; `None`: nothing of it is trained.
fn first_trained(parameters: &[(String, Tensor)], tower: &str, blocks: u64) -> Result<Option<u64>> {
    let count = parameters.iter().filter_map(|(name, _)| block_of(name, tower)).max().map_or(0, |last| last + 1);
    ensure!(
        blocks <= count,
        "model.{}_blocks = {blocks}: the tower has {count} blocks",
        if tower == "vision_model" { "image" } else { "text" }
    );
    Ok((blocks > 0).then_some(count - blocks))
}

/// Number of the block that a parameter of the tower belongs to.
fn block_of(name: &str, tower: &str) -> Option<u64> {
    let rest = name.strip_prefix(tower)?.strip_prefix(".encoder.layers.")?;
    rest.split('.').next()?.parse().ok()
}

/// Whether a parameter is in a trained block or after all blocks.
fn is_late(name: &str, image: Option<u64>, text: Option<u64>) -> bool {
    let late = |tower: &str, after: &[&str], first: Option<u64>| {
        first.is_some_and(|first| {
            block_of(name, tower).is_some_and(|block| block >= first) || after.iter().any(|part| name.starts_with(part))
        })
    };
    late("vision_model", &["vision_model.post_layernorm", "visual_projection"], image)
        || late("text_model", &["text_model.final_layer_norm", "text_projection"], text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn last_blocks_include_what_follows_them() {
        let late = |name: &str| is_late(name, Some(3), None);
        assert!(late("vision_model.encoder.layers.3.mlp.fc1.weight") && late("visual_projection.weight"));
        assert!(late("vision_model.post_layernorm.bias") && !late("vision_model.encoder.layers.2.mlp.fc1.weight"));
        assert!(!late("vision_model.pre_layrnorm.bias") && !late("text_projection.weight"));
        assert!(is_late("text_model.encoder.layers.11.layer_norm1.bias", None, Some(9)));
    }
}
