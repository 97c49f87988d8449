//! cDPO: DPO on labels of which a known share is wrong (docs/methods.md, section 15).
//!
//! ```text
//! loss = -(1 - e) log sigma(u) - e log sigma(-u),   e = label_noise
//! ```

use super::{BETA_AUTO, BetaRule, Entry, Method, MethodKeys, Needs, Offline, PairLoss, Pairs, Step};
use crate::keys::{Range, within};
use tch::Tensor;

pub const ENTRY: Entry = Entry {
    title: "cDPO",
    paper: "",
    cost: "1",
    when: "a known share of wrong labels",
    page: "pairwise.md#labels-that-are-wrong",
    ..Entry::of::<Cdpo>("cdpo")
};

crate::keys! {
    pub struct Cdpo {
        beta: BetaRule = BETA_AUTO,
        /// share of the labels that is wrong
        label_noise: f64 = within(Range::UNIT).or("0.1"),
        ; offline: Offline,
    }
}

impl MethodKeys for Cdpo {
    fn method(self) -> Method {
        Method::pairs(Needs::pairs(self.beta, self.offline), self)
    }
}

impl PairLoss for Cdpo {
    fn losses(&self, pairs: &Pairs, _: &Step) -> Tensor {
        let u = pairs.u();
        u.log_sigmoid() * (self.label_noise - 1.0) - (-u).log_sigmoid() * self.label_noise
    }
}
