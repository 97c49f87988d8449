//! General preference model (arXiv 2410.02197; `models/loss.py`, `rw_model_general_preference.py` of the authors' code).
//!
//!     v = W [f_i * f_c] in R^{2m};   g(a, b) = sum_l lam_l (a_{2l} b_{2l+1} - a_{2l+1} b_{2l})
//!     P(a > b) = sigmoid(g(a, b) / tau);   lam = m softmax(W_p f_c), or 1;   L = -log sigmoid(g(w, l) / tau)
//!
//! Antisymmetric by construction, so preferences may form cycles. v is not normalised, as in the code.

use super::head::{Batch, Group, Head, Input, Measured, Parameters};
use super::shared::{both, cross_entropy, drawn, sum_last};
use crate::keys::{Range, switch, whole, within};
use tch::{Device, Kind, Tensor};

crate::keys! {
    /// Keys of [method].
    pub struct Gpm {
        /// planes m of the embedding, which has 2 m numbers
        planes: i64 = whole(1, 64).or("2"),
        /// scale of the logits
        tau: f64 = within(Range::POSITIVE).or("0.1"),
        /// planes are weighed by the prompt
        prompt_weights: bool = switch().or("false"),
    }
}

/// g(a, b) `[B]` of embeddings `[B, 2 m]` with weights `[B, m]` of the planes.
pub fn score(a: &Tensor, b: &Tensor, weights: &Tensor) -> Tensor {
    let planes = |v: &Tensor| v.view([v.size()[0], -1, 2]);
    let (a, b) = (planes(a), planes(b));
    let area = a.select(2, 0) * b.select(2, 1) - a.select(2, 1) * b.select(2, 0);
    sum_last(&(area * weights))
}

/// lam `[B, m]` of logits `[B, m]`: they sum to m.
pub fn plane_weights(logits: &Tensor) -> Tensor {
    logits.softmax(-1, None::<Kind>) * logits.size()[1] as f64
}

/// Loss of each pair: g `[B]`, share of the first picture `y` `[B]`.
pub fn losses(g: &Tensor, y: &Tensor, tau: f64) -> Tensor {
    cross_entropy(&(g / tau), y)
}

/// The embedding, and the weights of its planes.
pub struct Embedding {
    settings: Gpm,
    /// `[2 m, P]`
    weight: Tensor,
    /// `[m, P]`
    planes: Option<Tensor>,
}

impl Embedding {
    /// Normal start values of variance 1 / (P + 1); planes are weighed equally at first.
    pub fn new(settings: &Gpm, width: i64, seed: u64, device: Device) -> Self {
        let name = "embedding.weight";
        let std = (1.0 / (width as f64 + 1.0)).sqrt();
        let weight = drawn(seed, &name, &[2 * settings.planes, width], std).to_device(device);
        let planes = settings.prompt_weights.then(|| Tensor::zeros([settings.planes, width], (Kind::Float, device)));
        Self { settings: settings.clone(), weight, planes }
    }

    /// Embeddings `[N, 2 m]` and weights `[N, m]` of outputs.
    fn parts(&self, outputs: &Tensor) -> (Tensor, Tensor) {
        let m = self.settings.planes;
        (outputs.narrow(-1, 0, 2 * m), outputs.narrow(-1, 2 * m, m))
    }

    /// g of pairs `[B, 2, 3 m]`.
    fn compared(&self, pairs: &Tensor) -> Tensor {
        let (first, second) = both(pairs);
        let ((a, weights), (b, _)) = (self.parts(&first), self.parts(&second));
        score(&a, &b, &weights)
    }
}

impl Head for Embedding {
    /// `[N, 3 m]`: the embedding, the weights of the planes.
    fn outputs(&self, input: &Input) -> Tensor {
        let prompts = input.prompts.select(1, 0);
        let v = (input.images * &prompts).linear(&self.weight, None::<Tensor>);
        let weights = match &self.planes {
            Some(planes) => plane_weights(&prompts.linear(planes, None::<Tensor>)),
            None => v.narrow(1, 0, self.settings.planes).ones_like(),
        };
        Tensor::cat(&[v, weights], 1)
    }

    fn losses(&self, outputs: &Tensor, batch: &Batch) -> Tensor {
        let pairs = outputs.view([-1, 2, outputs.size()[1]]);
        losses(&self.compared(&pairs), &batch.share, self.settings.tau)
    }

    fn probabilities(&self, pairs: &Tensor) -> Tensor {
        (self.compared(pairs) / self.settings.tau).sigmoid()
    }

    /// None: a rating is a mean of g over other pictures of the prompt, which the win share of `score --compare` is too.
    fn measures(&self) -> Vec<Measured> {
        Vec::new()
    }

    fn parameters(&self) -> Parameters {
        let weight = ("embedding.weight".to_string(), self.weight.shallow_clone());
        let planes = self.planes.iter().map(|planes| ("planes.weight".to_string(), planes.shallow_clone()));
        std::iter::once(weight).chain(planes).collect()
    }

    fn groups(&self) -> Vec<Group> {
        vec![Group::plain(self.parameters())]
    }
}
