//! Errors of a micro-batch: as numbers for the objective, and as a graph for the backward pass.

use crate::networks::{InversionWatch, Noised};
use crate::objectives::{Drift, Errors, Evaluation};
use tch::{Kind, Tensor};

/// One image of every item that has so many.
pub struct Part {
    /// Rows of the micro-batch, as an index.
    pub rows: Tensor,
    pub noised: Noised,
    /// e_theta `[rows]` with its graph; `None`: without one so far.
    pub theta: Option<Tensor>,
}

/// A micro-batch through the networks.
pub struct Forward {
    /// e_theta `[R]`, with its graph unless `parts` have it.
    pub theta: Tensor,
    /// Images that the backward pass takes one after the other; `None`: all at once.
    pub parts: Option<Vec<Part>>,
    /// `[n]`, with its graph.
    pub drift: Option<Drift>,
    /// All numbers, detached.
    pub errors: Errors,
    /// Mean of the product of the residuals of winner and loser, `[n]`, for the safeguard.
    pub product: Option<Tensor>,
    /// e_ref - e_start of the preferred images in the space of margins, if the guard of the reference measures at the
    /// end of the step.
    pub divergence: Vec<f64>,
    pub inversion: Option<InversionWatch>,
    /// C h w
    pub numel: i64,
}

impl Forward {
    /// Scalar: the sum of dL/de e. Its gradients are exact, since the objective depends only on these numbers.
    pub fn root(&self, evaluation: &Evaluation) -> Tensor {
        let mut root = (&self.theta * &evaluation.d_theta).sum(None::<Kind>);
        if let (Some(drift), Some(d)) = (&self.drift, &evaluation.d_drift) {
            root += (&drift.square * &d.square + &drift.pull * &d.pull).sum(None::<Kind>);
        }
        root
    }
}
