//! MaPO: "Margin-aware Preference Optimization for Aligning Diffusion Models without Reference", arXiv 2406.06424, as its
//! public code computes it (docs/methods.md, section 13).
//!
//! ```text
//! f(e) = v e / (exp(v e) - 1)
//! loss = e_theta(w) - weight log sigma(scale (f(e_theta(w)) - f(e_theta(l))))
//! ```
//!
//! One network: there is no reference, and no implicit reward to report.

use super::{ERROR, Entry, NO_PROMPT_DROPOUT, Needs, Objective, PairLoss, Pairs, Step, real};
use crate::keys::{Default, Kind, Range, key};
use tch::Tensor;

/// Below this, x / expm1(x) is computed from its series.
const SMALL: f64 = 1e-4;

pub const ENTRY: Entry = Entry {
    name: "mapo",
    keys: &[
        key("weight", Kind::Real(Range::NOT_NEGATIVE), Default::Toml("0.1"), "of the margin term"),
        key("v", Kind::Real(Range::POSITIVE), Default::Toml("0.5"), "scale of the errors in f"),
        key("scale", Kind::Real(Range::POSITIVE), Default::Toml("1000.0"), "of the logit"),
        NO_PROMPT_DROPOUT,
        ERROR,
    ],
    needs: Needs { reference: false, timestep_weighting: false, ..Needs::PAIRS },
    build: |method| {
        let (weight, v, scale) = (real(method, "weight"), real(method, "v"), real(method, "scale"));
        Objective::Pairs(Box::new(Mapo { weight, v, scale }))
    },
};

struct Mapo {
    weight: f64,
    v: f64,
    scale: f64,
}

impl PairLoss for Mapo {
    fn losses(&self, pairs: &Pairs, _: &Step) -> Tensor {
        let logit = (self.f(pairs.theta_w()) - self.f(pairs.theta_l())) * self.scale;
        pairs.theta_w() - logit.log_sigmoid() * self.weight
    }
}

impl Mapo {
    /// x / (e^x - 1) with x = v e: decreasing, 1 at 0.
    fn f(&self, e: &Tensor) -> Tensor {
        let x = e * self.v;
        let small = x.lt(SMALL);
        // The unused branch must not divide by zero: its gradient would still be NaN.
        let safe = x.ones_like().where_self(&small, &x);
        let series = x.square() / 12.0 - &x / 2.0 + 1.0;
        series.where_self(&small, &(&safe / safe.expm1()))
    }
}
