//! Gradient checkpointing (arXiv 1604.06174): parts of a network are recomputed in the backward pass instead of
//! storing their activations.

use crate::error::Result;
use crate::models::layers::{AdapterSet, Weights};
use diffpref_native::{checkpoint, grad_enabled};
use serde::{Deserialize, Serialize};
use tch::Tensor;

/// Recomputed parts of a UNet. Each choice includes the ones before it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Recompute {
    #[default]
    None,
    /// Every transformer (the `attentions` of a block).
    Attention,
    /// Every resnet too: the feature maps between them are stored.
    Blocks,
    /// On the way up each skip connection with its resnet and transformer as one part, the upsampled maps, and the
    /// last norm. Stored are the skips and one map per layer.
    All,
}

impl Recompute {
    /// Names in configurations, from least to most.
    pub const NAMES: [&str; 4] = ["none", "attention", "blocks", "all"];
}

/// `run(part, inputs)` that stores only `inputs` if gradients are recorded; otherwise a plain call. The graph keeps a
/// clone of the part, which shares its weights.
///
/// # Errors
/// A panic of `run` while gradients are recorded: a panic cannot pass through libtorch.
pub(crate) fn recomputed<P: Weights + Clone + Send + 'static>(
    part: &P,
    adapters: Option<AdapterSet>,
    inputs: &[&Tensor],
    run: impl Fn(&P, &[Tensor]) -> Tensor + Send + 'static,
) -> Result<Tensor> {
    if !grad_enabled() {
        let inputs: Vec<Tensor> = inputs.iter().map(|t| t.shallow_clone()).collect();
        return Ok(run(part, &inputs));
    }
    let mut leaves = Vec::new();
    part.weights(adapters, &mut |tensor| {
        if tensor.requires_grad() {
            leaves.push(tensor.shallow_clone());
        }
    });
    let part = part.clone();
    let leaves: Vec<&Tensor> = leaves.iter().collect();
    Ok(checkpoint(move |inputs| run(&part, inputs), inputs, &leaves)?)
}
