//! Supervised fine-tuning on the winners: the plain denoising loss (docs/methods.md, section 15).
//!
//! ```text
//! loss = e_theta(w)      in the model's own parameterisation
//! ```
//!
//! The loser takes no part in training; validation still measures both images.

use super::{Entry, Method, MethodKeys, Needs, Offline, PairLoss, Pairs, Step};
use tch::Tensor;

pub const ENTRY: Entry = Entry {
    title: "Supervised fine-tuning",
    paper: "",
    cost: "0.4",
    when: "winners that are better than the model's own pictures; the start of inpo and smpo on SD1.5",
    page: "sft.md",
    ..Entry::of::<Sft>("sft")
};

crate::keys! {
    pub struct Sft {
        ; offline: Offline,
    }
}

impl MethodKeys for Sft {
    fn method(self) -> Method {
        let needs = Needs { reference: false, loser: false, timestep_weighting: false, ..Needs::offline(self.offline) };
        Method::pairs(needs, self)
    }
}

impl PairLoss for Sft {
    fn losses(&self, pairs: &Pairs, _: &Step) -> Tensor {
        pairs.native_w().shallow_clone()
    }
}
