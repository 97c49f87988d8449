//! InPO (DDIM-InPO): "Inversion Preference Optimization with Reparametrized DDIM for Efficient Diffusion Model Alignment",
//! arXiv 2503.18454 (docs/methods.md, section 4).
//!
//! ```text
//! x_t = DDIM inversion of x_0 by the policy,   tau = (x_t - a_t x_0) / s_t
//! e = mean (eps(x_t, t, c) - tau)^2,   u = 0.5 beta h,   loss = -log sigma(u)
//! ```
//!
//! Winner and loser each have their own tau and share t. The trainer computes x_t and tau; the loss is DPO's.

use super::dpo::Logistic;
use super::needs::{INVERSION, INVERSION_STEPS};
use super::{BETA_AUTO, BetaRule, Entry, Inversion, InversionGrid, Inverter, Method, MethodKeys, Needs, Offline};
use crate::keys::{Range, within};

pub const ENTRY: Entry = Entry {
    title: "InPO (DDIM-InPO)",
    paper: "arXiv 2503.18454",
    cost: "2.4",
    when: "few steps, much compute each",
    page: "inpo.md",
    ..Entry::of::<Inpo>("inpo")
};

crate::keys! {
    pub struct Inpo {
        beta: BetaRule = BETA_AUTO.by_family("2000.0"),
        inversion: InversionGrid = INVERSION,
        inversion_steps: i64 = INVERSION_STEPS.or("10"),
        /// share of noise added after each step
        inversion_eta: f64 = within(Range::UNIT).or("0.0"),
        ; offline: Offline,
    }
}

impl MethodKeys for Inpo {
    fn method(self) -> Method {
        let needs = Needs {
            inversion: Some(Inversion {
                inverter: Inverter::Ddim,
                grid: self.inversion,
                steps: self.inversion_steps,
                eta: self.inversion_eta,
            }),
            ..Needs::pairs(self.beta, self.offline)
        };
        Method::pairs(needs, Logistic)
    }
}
