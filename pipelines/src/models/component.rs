//! Parts that networks share: shapes of their layers, their parameters, and their folder.

use crate::error::Result;
use crate::models::config::ConfigFile;
use crate::models::layers::AdapterHost;
use crate::weights::write_safetensors;
use std::collections::BTreeMap;
use std::path::Path;
use tch::{Kind, Tensor};

/// Module paths of the layers available to a LoRA, with the shapes of their weights: `[out, in]`, or
/// `[out, in, k, k]` for a stored convolution.
pub type LayerShapes = BTreeMap<String, Vec<i64>>;

pub(crate) fn layer_shapes(network: &mut dyn AdapterHost) -> LayerShapes {
    let mut shapes = LayerShapes::new();
    network.adapters_mut(&mut |layer| drop(shapes.insert(layer.path().to_string(), layer.weight_shape().to_vec())));
    shapes
}

/// Writes a component folder: its config.json and `<stem>.safetensors` in the given kind.
pub(crate) fn save_component(
    dir: &Path,
    stem: &str,
    config: &ConfigFile,
    kind: Kind,
    tensors: Vec<(String, Tensor)>,
) -> Result<()> {
    config.write(dir)?;
    let tensors = tensors.into_iter().map(|(name, tensor)| Ok((name, tensor.detach().f_to_kind(kind)?)));
    let tensors = tensors.collect::<Result<Vec<_>>>()?;
    write_safetensors(&dir.join(format!("{stem}.safetensors")), &tensors, &[("format", "pt")])
}

/// Shallow clones of a network's parameters, sorted by name.
pub(crate) fn shallow(parameters: &BTreeMap<String, Tensor>) -> Vec<(String, Tensor)> {
    parameters.iter().map(|(name, tensor)| (name.clone(), tensor.shallow_clone())).collect()
}
