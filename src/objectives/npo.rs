//! Diffusion-NPO: "Negative Preference Optimization for Better Preference Aligned Generation of Diffusion Models", arXiv
//! 2505.11245 (docs/methods.md, section 6): DPO on swapped labels. The model learns what people do not want, for the
//! negative side of guidance.
//!
//! ```text
//! loss = -log sigma(u)   with the loser of the data as winner
//! ```
//!
//! Ties are dropped, although the public script trains on them. beta 1000 here is the 500 of its SD1.5 script, whose
//! logit has no factor 0.5.

use super::dpo::Logistic;
use super::{BETA_AUTO, BetaRule, ERROR, Entry, ErrorSpace, Method, MethodKeys, NO_PROMPT_DROPOUT, Needs, Offline};

pub const ENTRY: Entry = Entry {
    title: "Diffusion-NPO",
    paper: "arXiv 2505.11245",
    cost: "1",
    when: "a negative model, beside another model, for the negative side of guidance",
    page: "npo.md",
    ..Entry::of::<Npo>("npo")
};

crate::keys! {
    pub struct Npo {
        beta: BetaRule = BETA_AUTO.by_family("1000.0"),
        prompt_dropout: f64 = NO_PROMPT_DROPOUT,
        error: ErrorSpace = ERROR,
    }
}

impl MethodKeys for Npo {
    fn method(self) -> Method {
        let needs = Needs {
            swapped: true,
            ..Needs::pairs(self.beta, Offline { prompt_dropout: self.prompt_dropout, error: self.error })
        };
        Method::pairs(needs, Logistic)
    }
}
