//! Memory for time: parts of a network that are computed again in the backward pass, so that what they make on their way
//! need not be kept until then (gradient checkpointing, arXiv 1604.06174).

use crate::error::Result;
use crate::models::layers::{AdapterSet, Weights};
use diffpref_native::{checkpoint, grad_enabled};
use serde::{Deserialize, Serialize};
use tch::Tensor;

/// Which parts of a UNet. Each choice includes the ones before it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Recompute {
    #[default]
    None,
    /// Every transformer (the `attentions` of a block).
    Attention,
    /// Every resnet too: what is kept are the feature maps between them.
    Blocks,
    /// On the way up each skip with the resnet and transformer that take it in as one part, the upsampled maps, and the
    /// last norm: what is kept are the skips and a map a layer.
    All,
}

impl Recompute {
    /// Names in configurations, from least to most.
    pub const NAMES: [&str; 4] = ["none", "attention", "blocks", "all"];
}

/// `run(part, inputs)`, of which only `inputs` are kept where gradients are recorded; elsewhere it is a plain call. The
/// graph keeps a clone of the part, which shares its weights.
///
/// # Errors
/// When `run` panics where gradients are recorded: a panic cannot pass through libtorch.
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
