//! Self-NPO: "Data-Free Diffusion Model Enhancement via Truncated Diffusion Fine-Tuning", arXiv 2505.11777, as its public code
//! computes it (docs/methods.md, section 7): a negative model from the model's own predictions.
//!
//! ```text
//! d = f_theta(x_s, s) - x_0,   f: the predicted x_0;   x_0, detached: what the EMA's rollout predicts after a few steps
//! loss = mean over C, H, W of [ sqrt(d^2 + c^2) - c ],   c = huber_c
//! ```
//!
//! No pairs and no reference: with `start = "data"` rollouts start from winners, or labelled images.

use super::{Entry, Method, MethodKeys, Needs, ResidualLoss, Start, Truncation};
use crate::keys::{Range, one_of, whole, within};
use tch::Tensor;

/// Levels of the grid from which rollouts start.
pub const GRID: i64 = 25;

pub const ENTRY: Entry = Entry {
    title: "Self-NPO",
    paper: "arXiv 2505.11777",
    cost: "15 a picture",
    when: "a negative model without preferences",
    page: "self_npo.md",
    ..Entry::of::<SelfNpo>("self_npo")
};

crate::keys! {
    pub struct SelfNpo {
        /// DDIM steps, of 25, before x_0 is predicted
        rollout_steps: usize = whole(1, GRID).or("5"),
        /// w of x_0 = x_0c + w (x_0c - x_0u) in the rollout: -1 leaves the prompt out, less leads away from it
        guidance: f64 = within(Range::ANY).by_family("-1.0"),
        /// where the loss turns from square to absolute
        huber_c: f64 = within(Range::POSITIVE).or("0.001"),
        /// of the copy of the model that rolls out
        ema_decay: f64 = within(Range::INSIDE).or("0.999"),
        /// where rollouts start: noised pictures of the data, or noise
        start: Start = one_of::<Start>().or_text("data"),
    }
}

impl MethodKeys for SelfNpo {
    fn method(self) -> Method {
        let needs = Needs {
            truncated: Some(Truncation {
                start: self.start,
                steps: self.rollout_steps,
                guidance: self.guidance,
                ema_decay: self.ema_decay,
            }),
            reference: false,
            loser: false,
            timestep_weighting: false,
            ..Needs::PAIRS
        };
        Method::residuals(needs, self)
    }
}

impl ResidualLoss for SelfNpo {
    fn losses(&self, residuals: &Tensor) -> Tensor {
        let square = residuals.square();
        // sqrt(d^2 + c^2) - c without its cancellation at small d.
        let huber = &square / ((&square + self.huber_c * self.huber_c).sqrt() + self.huber_c);
        huber.flatten(1, -1).mean_dim([1i64].as_slice(), false, huber.kind())
    }
}
