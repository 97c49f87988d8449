//! Several dimensions by one text prefix each, after MPS (arXiv 2405.14705), whose own cross-attention is not trained here.
//!
//!     a_{k,j} = s f_k . f_{c,j},   f_{c,j}: features of "DIMENSION: prompt"
//!     l = mean over the labelled dimensions j of the loss of PickScore on a_{.,j}

use super::head::{Batch, Head, Input, Measured};
use super::pickscore;
use super::shared::{both, sum_last};
use tch::Tensor;

crate::keys! {
    /// Keys of [method].
    pub struct Dimensions {
        /// text of a prompt in a dimension; {dimension} and {prompt} are replaced
        text: String = crate::keys::text().or_text("{dimension}: {prompt}"),
    }
}

/// Loss of each pair: differences of logits `[B, D]`, shares `[B, D]`, -1 without a label.
pub fn losses(d: &Tensor, shares: &Tensor) -> Tensor {
    let labelled = shares.ge(0.0).to_kind(d.kind());
    let each = pickscore::losses(d, &shares.clamp_min(0.0)) * &labelled;
    sum_last(&each) / sum_last(&labelled).clamp_min(1.0)
}

/// The towers alone, with a text per dimension.
pub struct Prefixed {
    text: String,
    names: Vec<String>,
}

impl Prefixed {
    pub fn new(settings: &Dimensions, names: Vec<String>) -> Self {
        Self { text: settings.text.clone(), names }
    }

    /// Differences `[B, D]` of pairs `[B, 2, D]`.
    fn differences(pairs: &Tensor) -> Tensor {
        let (first, second) = both(pairs);
        first - second
    }
}

impl Head for Prefixed {
    fn texts(&self, prompt: &str) -> Vec<String> {
        let of = |name: &String| self.text.replace("{dimension}", name).replace("{prompt}", prompt);
        self.names.iter().map(of).collect()
    }

    fn dimensions(&self) -> &[String] {
        &self.names
    }

    /// `[N, D]`
    fn outputs(&self, input: &Input) -> Tensor {
        sum_last(&(input.images.unsqueeze(1) * input.prompts)) * input.scale
    }

    fn losses(&self, outputs: &Tensor, batch: &Batch) -> Tensor {
        let pairs = outputs.view([-1, 2, outputs.size()[1]]);
        losses(&Self::differences(&pairs), &batch.dimensions)
    }

    fn probabilities(&self, pairs: &Tensor) -> Tensor {
        Self::differences(pairs).sigmoid()
    }

    fn measures(&self) -> Vec<Measured> {
        self.names.iter().map(|name| Measured::plain(name)).collect()
    }
}
