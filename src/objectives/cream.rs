//! CREAM's loss: DPO on labels that are trusted as far as two rankings agree, arXiv 2410.12735 (docs/methods/pairwise.md).
//!
//! ```text
//! loss = -c log sigma(u) - (1 - c) log sigma(-u)
//! ```
//!
//! c and 1 - c are the row's scores of winner and loser, which `diffpref pairs --consistency-with` writes. cdpo is the
//! same loss with one c for all pairs.

use super::{BETA_AUTO, BetaRule, Entry, Method, MethodKeys, Needs, Offline, PairLoss, Pairs, Scored, Step};
use crate::keys::one_of;
use tch::Tensor;

pub const ENTRY: Entry = Entry {
    title: "CREAM",
    paper: "arXiv 2410.12735",
    cost: "1",
    when: "labels of the model itself, or a chance for every label",
    page: "pairwise.md#cream",
    ..Entry::of::<Cream>("cream")
};

crate::choice! {
    /// Column of c
    pub enum Confidence {
        /// `mean_confidence`: one c for the pairs of a file.
        Avg = "avg",
        /// `confidence`: c of the pair's prompt.
        Dyn = "dyn",
    }
}

impl Confidence {
    /// Name in the rows' `scores`.
    fn column(self) -> &'static str {
        match self {
            Self::Avg => "mean_confidence",
            Self::Dyn => "confidence",
        }
    }
}

crate::keys! {
    pub struct Cream {
        beta: BetaRule = BETA_AUTO,
        /// avg: the rows' scores `mean_confidence`; dyn: `confidence`
        confidence: Confidence = one_of::<Confidence>().or_text("avg"),
        ; offline: Offline,
    }
}

impl MethodKeys for Cream {
    fn method(self) -> Method {
        let scores = Some(Scored::chances(self.confidence.column()));
        Method::pairs(Needs { scores, ..Needs::pairs(self.beta, self.offline) }, self)
    }
}

impl PairLoss for Cream {
    fn losses(&self, pairs: &Pairs, _: &Step) -> Tensor {
        let ([c, other], u) = (pairs.scores(), pairs.u());
        -(u.log_sigmoid() * c) - (-u).log_sigmoid() * other
    }
}
