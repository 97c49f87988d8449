//! Objectives: the differentiated functions. One file per method; this file has what all share.
//!
//! An objective takes the errors of policy and reference as detached leaves ([`Pairs`], [`List`], [`Labels`]) and
//! returns a loss per pair, list or image. Files, devices, optimizers and the CLI are out of its reach. Its inputs
//! are declared as data ([`Needs`]). Notation: docs/methods.md, section 0.

mod bounds;
mod described;
mod evaluate;
mod gain;
mod groups;
mod leaves;
mod method;
mod needs;
mod quantiles;
pub mod safeguard;
mod shared;
pub mod statistics;
mod stepwise;
pub mod timestep_weight;

mod aot;
mod aot_unpaired;
mod apo_down;
mod apo_zero;
mod bco;
mod cdpo;
mod cream;
mod d3po;
mod ddpo;
mod dense_reward;
mod discopop;
mod dmpo;
mod dpo;
mod dpo_shift;
mod dpok;
mod dspo_score;
mod dspo_sq;
mod focalpo;
mod grpo;
mod hinge;
mod hypo;
mod inpo;
mod ipo;
mod kto;
mod lipo_lambda;
mod mapo;
mod mappo;
mod mpo;
mod nca;
mod npo;
mod odpo;
mod plackett_luce;
mod pmpo;
mod rankdpo;
mod rdpo;
mod relative_po;
mod rpo;
pub mod self_npo;
mod sft;
mod smpo;
mod spo;
mod sppo_hard;
mod tailorpo;
mod todo;
mod uapo;
mod wpo;

pub use described::MethodDescription;
pub use evaluate::{
    Compared, Evaluation, ItemLoss, Labelled, Weighting, evaluate, evaluate_together, numbers, statistic_values,
    weight_values,
};
pub use leaves::{Drift, Errors, Labels, List, Pairs, descending, ranked_pairs};
pub use method::{Entry, Method, MethodKeys, MethodSettings};
pub use needs::{
    Candidates, Groups, Inversion, InversionGrid, Inverter, Lists, Needs, Other, Renormalise, Rollouts, Scored, Spread,
    Start, StepDrift, StepRatio, Truncation, Units, WholeStep,
};
pub use shared::{
    BETA, BETA_AUTO, BetaRule, ERROR, ErrorSpace, ITEMS, NO_PROMPT_DROPOUT, Offline, Rows, SCORER, SHARED_NOISE, Scores,
};
pub use spo::best_and_worst;
pub use stepwise::{Ratios, ResidualLoss, StepEvaluation, StepLoss, Unit, evaluate_units};

use tch::Tensor;

/// Values of a step that its objective reads.
#[derive(Debug, Clone, Copy)]
pub struct Step {
    /// beta of this step (docs/methods.md 0.3); without meaning for methods without beta.
    pub beta: f64,
    /// Number of this step, from 1, and of the last one; for ramps.
    pub number: u64,
    pub steps: u64,
    /// The statistic declared by the method's needs.
    pub statistic: f64,
}

/// A loss of pairs.
pub trait PairLoss {
    /// `[n]`, differentiable with respect to the leaves.
    fn losses(&self, pairs: &Pairs, step: &Step) -> Tensor;

    /// The method's u in docs/methods.md, `[n]`: above 0 the pair is ordered as labelled.
    fn logits(&self, pairs: &Pairs, _: &Step) -> Tensor {
        pairs.u()
    }

    /// Loss weights, `[n]`, if `Needs::weights` declares them; never differentiated.
    fn weights(&self, _: &Pairs, _: &Step) -> Option<Tensor> {
        None
    }

    /// A factor inside the logit, `[n]`: no loss weight, but reported like one.
    fn multiplier(&self, _: &Pairs) -> Option<Tensor> {
        None
    }

    /// Values, `[..]`, whose mean is `Step::statistic`, if `Needs::statistic` declares one.
    fn statistic(&self, pairs: &Pairs, _: &Step) -> Tensor {
        pairs.theta_w().zeros_like()
    }
}

/// The loss of a list in terms: one per pair of its images, or one in all.
pub struct Terms {
    /// `[m]`
    pub losses: Tensor,
    /// `[m]`, never differentiated; `None`: all 1.
    pub weights: Option<Tensor>,
}

/// A loss of ranked lists.
pub trait ListLoss {
    /// The loss of a list is the sum of its terms. `None` leaves the list out of the step: it has no ranked pair.
    fn terms(&self, list: &List, step: &Step) -> Option<Terms>;

    /// Weights of a list's terms that follow from `phi` alone, normalised by their mean over the training set.
    fn data_weights(&self, _phi: &[f64]) -> Option<Vec<f64>> {
        None
    }
}

/// A loss of labelled images.
pub trait LabelLoss {
    /// `[n]`
    fn losses(&self, labels: &Labels, step: &Step) -> Tensor;

    /// Whether an image has a loss, one per image. `None`: all have one. The others count in the losses of these.
    fn counted(&self, _: &Labels) -> Option<Vec<bool>> {
        None
    }

    /// Values, `[..]`, whose mean is `Step::statistic`, if `Needs::statistic` declares one.
    fn statistic(&self, labels: &Labels, _: &Step) -> Tensor {
        labels.g.zeros_like()
    }
}

/// A preference-alignment method.
pub enum Objective {
    Pairs(Box<dyn PairLoss>),
    Lists(Box<dyn ListLoss>),
    Labels(Box<dyn LabelLoss>),
    /// Units of transitions; without errors.
    Steps(Box<dyn StepLoss>),
    /// Residuals of predicted pictures; without errors.
    Residuals(Box<dyn ResidualLoss>),
}

/// Every method that is built.
pub const REGISTRY: &[Entry] = &[
    dpo::ENTRY,
    sft::ENTRY,
    inpo::ENTRY,
    smpo::ENTRY,
    npo::ENTRY,
    rankdpo::ENTRY,
    lipo_lambda::ENTRY,
    plackett_luce::ENTRY,
    mpo::ENTRY,
    dspo_score::ENTRY,
    dspo_sq::ENTRY,
    dmpo::ENTRY,
    kto::ENTRY,
    mapo::ENTRY,
    ipo::ENTRY,
    hinge::ENTRY,
    cdpo::ENTRY,
    cream::ENTRY,
    rdpo::ENTRY,
    odpo::ENTRY,
    focalpo::ENTRY,
    dpo_shift::ENTRY,
    rpo::ENTRY,
    todo::ENTRY,
    wpo::ENTRY,
    mappo::ENTRY,
    hypo::ENTRY,
    nca::ENTRY,
    bco::ENTRY,
    sppo_hard::ENTRY,
    apo_zero::ENTRY,
    apo_down::ENTRY,
    discopop::ENTRY,
    d3po::ENTRY,
    spo::ENTRY,
    tailorpo::ENTRY,
    ddpo::ENTRY,
    dpok::ENTRY,
    grpo::ENTRY,
    dense_reward::ENTRY,
    self_npo::ENTRY,
    aot::ENTRY,
    aot_unpaired::ENTRY,
    relative_po::ENTRY,
    pmpo::ENTRY,
    uapo::ENTRY,
];

/// Known methods that this version refuses: personalised preferences, arXiv 2501.06655.
pub const KNOWN_NOT_BUILT: &[&str] = &["ppd"];

/// Names of methods in public code: accepted, and written as the method's own name.
pub const ALIASES: &[(&str, &str)] = &[("exo", "dmpo")];

/// Names in docs/methods.md that are dpo with plug-ins, and the plug-ins.
pub const PLUG_INS: &[(&str, &str)] = &[
    (
        "timestep-aware",
        "timesteps.law = \"discounted\", timesteps.weighting = \"timestep_aware\" and reference.kind = \"updated\"",
    ),
    ("dense-timesteps", "timesteps.law = \"discounted\""),
    ("balanced", "data.labels = \"vote:A,B,..\" and reference.kind = \"updated\""),
    ("videodpo", "weights.source = \"videodpo\""),
    ("sdpo", "safeguard.name = \"sdpo\""),
];

/// The registered method with this name or this alias.
pub fn find(name: &str) -> Option<&'static Entry> {
    let name = ALIASES.iter().find(|(alias, _)| *alias == name).map_or(name, |(_, own)| own);
    REGISTRY.iter().find(|e| e.name == name)
}

#[cfg(test)]
mod tests;
