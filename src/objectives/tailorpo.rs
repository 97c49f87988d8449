//! TailorPO: "Refining Alignment Framework for Diffusion Models with Intermediate-Step Preference Ranking", arXiv
//! 2502.01667 (docs/methods.md, section 10d). Only its abstract was available: the form is an assumption, beta and
//! clamp are ours.
//!
//! ```text
//! spo with two candidates at every step, scored by a judge of pictures, and any gap a pair
//! ```

use super::bounds::RATIO_CLAMP;
use super::d3po::PairedSteps;
use super::needs::{CANDIDATES, DENOISE_AHEAD, SKIP_STEPS, THRESHOLD};
use super::spo::{SPO_BETA, needs};
use super::{BetaRule, Candidates, Entry, Method, MethodKeys};

pub const ENTRY: Entry = Entry {
    title: "TailorPO",
    paper: "arXiv 2502.01667",
    cost: "up to 2200 an iteration",
    when: "scores whose scale is unknown",
    page: "spo.md",
    ..Entry::of::<TailorPo>("tailorpo")
};

crate::keys! {
    pub struct TailorPo {
        beta: BetaRule = SPO_BETA,
        clamp: f64 = RATIO_CLAMP,
        candidates: usize = CANDIDATES.or("2"),
        threshold: f64 = THRESHOLD.or("0.0"),
        skip_steps: usize = SKIP_STEPS.or("0"),
        denoise_ahead: usize = DENOISE_AHEAD.or("0"),
    }
}

impl MethodKeys for TailorPo {
    fn method(self) -> Method {
        let Self { candidates, threshold, skip_steps, denoise_ahead, .. } = self;
        let candidates = Candidates { candidates, threshold, skip_steps, denoise_ahead };
        Method::steps(needs(self.beta, candidates), PairedSteps::new(self.clamp))
    }
}
