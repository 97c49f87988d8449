//! IPO: "A General Theoretical Paradigm to Understand Learning from Human Preferences", arXiv 2310.12036, in the
//! scaled form (docs/methods.md, section 15).
//!
//! ```text
//! loss = (u - 1/2)^2
//! ```
//!
//! The target is absolute: with beta 5000 typical |u| is 0.05 to 0.5, where this is almost linear.

use super::{BETA_AUTO, BetaRule, Entry, Method, MethodKeys, Needs, Offline, PairLoss, Pairs, Step};
use tch::Tensor;

pub const ENTRY: Entry = Entry {
    title: "IPO",
    paper: "arXiv 2310.12036",
    cost: "1",
    when: "labels that should not be driven to certainty",
    page: "pairwise.md#losses-that-stop",
    ..Entry::of::<Ipo>("ipo")
};

crate::keys! {
    pub struct Ipo {
        beta: BetaRule = BETA_AUTO,
        ; offline: Offline,
    }
}

impl MethodKeys for Ipo {
    fn method(self) -> Method {
        Method::pairs(Needs::pairs(self.beta, self.offline), self)
    }
}

impl PairLoss for Ipo {
    fn losses(&self, pairs: &Pairs, _: &Step) -> Tensor {
        (pairs.u() - 0.5).square()
    }
}
