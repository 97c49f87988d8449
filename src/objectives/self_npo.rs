//! Self-NPO: "Data-Free Diffusion Model Enhancement via Truncated Diffusion Fine-Tuning", arXiv 2505.11777, as its public code
//! computes it (docs/methods.md, section 7): a negative model from the model's own predictions.
//!
//! ```text
//! d = f_theta(x_s, s) - x_0,   f: the predicted x_0;   x_0, detached: what the EMA's rollout predicts after a few steps
//! loss = mean over C, H, W of [ sqrt(d^2 + c^2) - c ],   c = huber_c
//! ```
//!
//! No pairs and no reference: with `start = "data"` winners, or labelled images, give the pictures to start from.

use super::{Entry, Needs, Objective, ResidualLoss, real};
use crate::keys::{Default, Kind, Range, key};
use tch::Tensor;

/// Levels of the grid from which rollouts start.
pub const GRID: i64 = 25;

pub const ENTRY: Entry = Entry {
    name: "self_npo",
    keys: &[
        key(
            "rollout_steps",
            Kind::Int { min: 1, max: GRID },
            Default::Toml("5"),
            "DDIM steps, of 25, before x_0 is predicted",
        ),
        key(
            "guidance",
            Kind::Real(Range::ANY),
            Default::ByFamily("-1.0"),
            "w of x_0 = x_0c + w (x_0c - x_0u) in the rollout: -1 leaves the prompt out, less leads away from it",
        ),
        key(
            "huber_c",
            Kind::Real(Range::POSITIVE),
            Default::Toml("0.001"),
            "where the loss turns from square to absolute",
        ),
        key("ema_decay", Kind::Real(Range::INSIDE), Default::Toml("0.999"), "of the copy of the model that rolls out"),
        key(
            "start",
            Kind::Choice(&["data", "noise"], &[]),
            Default::Toml("\"data\""),
            "where rollouts start: noised pictures of the data, or noise",
        ),
    ],
    needs: Needs { truncated: true, reference: false, loser: false, timestep_weighting: false, ..Needs::PAIRS },
    build: |method| Objective::Residuals(Box::new(SelfNpo { c: real(method, "huber_c") })),
};

struct SelfNpo {
    c: f64,
}

impl ResidualLoss for SelfNpo {
    fn losses(&self, residuals: &Tensor) -> Tensor {
        let square = residuals.square();
        // sqrt(d^2 + c^2) - c without its cancellation at small d.
        let huber = &square / ((&square + self.c * self.c).sqrt() + self.c);
        huber.flatten(1, -1).mean_dim([1i64].as_slice(), false, huber.kind())
    }
}
