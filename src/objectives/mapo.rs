//! MaPO: "Margin-aware Preference Optimization for Aligning Diffusion Models without Reference", arXiv 2406.06424, as its
//! public code computes it (docs/methods.md, section 13).
//!
//! ```text
//! f(e) = v e / (exp(v e) - 1)
//! loss = e_theta(w) - weight log sigma(scale (f(e_theta(w)) - f(e_theta(l))))
//! ```
//!
//! One network: there is no reference, and no implicit reward to report.

use super::{ERROR, Entry, ErrorSpace, Method, MethodKeys, NO_PROMPT_DROPOUT, Needs, Offline, PairLoss, Pairs, Step};
use crate::keys::{Range, within};
use tch::Tensor;

/// Below this, x / expm1(x) is computed from its series.
const SMALL: f64 = 1e-4;

pub const ENTRY: Entry = Entry {
    title: "MaPO",
    paper: "arXiv 2406.06424",
    cost: "0.75",
    when: "one network in memory; winners much better than losers",
    page: "mapo.md",
    ..Entry::of::<Mapo>("mapo")
};

crate::keys! {
    pub struct Mapo {
        /// of the margin term
        weight: f64 = within(Range::NOT_NEGATIVE).or("0.1"),
        /// scale of the errors in f
        v: f64 = within(Range::POSITIVE).or("0.5"),
        /// of the logit
        scale: f64 = within(Range::POSITIVE).or("1000.0"),
        prompt_dropout: f64 = NO_PROMPT_DROPOUT,
        error: ErrorSpace = ERROR,
    }
}

impl MethodKeys for Mapo {
    fn method(self) -> Method {
        let needs = Needs {
            reference: false,
            timestep_weighting: false,
            ..Needs::offline(Offline { prompt_dropout: self.prompt_dropout, error: self.error })
        };
        Method::pairs(needs, self)
    }
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
