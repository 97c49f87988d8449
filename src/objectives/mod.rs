//! Objectives: what is differentiated. One file a method; here is what all of them share.
//!
//! An objective sees errors of policy and reference as detached leaves and returns a loss per pair. It never sees
//! files, devices, optimizers or the CLI. Notation: docs/methods.md, section 0.

mod dpo;
mod needs;
mod sft;

pub use needs::Needs;

use crate::config::schema::{Default, Key, Kind, Range, key};
use tch::Tensor;

/// Errors of a micro-batch. A leaf is the mean over C, H, W of the squared difference between prediction and target,
/// in the model's own parameterisation, `[n]`, float32 (float64 models: float64).
pub struct PairErrors {
    pub theta_w: Tensor,
    pub theta_l: Option<Tensor>,
    pub ref_w: Option<Tensor>,
    pub ref_l: Option<Tensor>,
    /// `[n]`: a leaf times this is the error in epsilon space (1 for epsilon models, abar_t for v models; docs/methods.md 0.2).
    pub epsilon_factor: Tensor,
}

impl PairErrors {
    /// h = (e_ref(w) - e_theta(w)) - (e_ref(l) - e_theta(l)), `[n]`, in the space of margins. `None` without a reference or loser.
    pub fn h(&self) -> Option<Tensor> {
        let (theta_l, ref_w, ref_l) = (self.theta_l.as_ref()?, self.ref_w.as_ref()?, self.ref_l.as_ref()?);
        let h_w = ref_w - &self.theta_w;
        let h_l = ref_l - theta_l;
        Some((h_w - h_l) * &self.epsilon_factor)
    }
}

/// What a step tells its objective.
#[derive(Debug, Clone, Copy)]
pub struct StepContext {
    /// beta of this step (docs/methods.md 0.3); without meaning for methods that have none.
    pub beta: f64,
}

/// A preference-alignment method.
pub trait Objective {
    fn needs(&self) -> Needs;

    /// The loss of each pair, `[n]`, differentiable with respect to the leaves of `errors`.
    fn losses(&self, errors: &PairErrors, step: &StepContext) -> Tensor;

    /// The logit u of each pair, `[n]`; `None` for methods that have none.
    fn logits(&self, errors: &PairErrors, step: &StepContext) -> Option<Tensor>;
}

/// A registered method: its name, its own hyperparameters, what it needs, and how it is built from [method].
pub struct Entry {
    pub name: &'static str,
    pub keys: &'static [Key],
    pub needs: Needs,
    pub build: fn(&toml::Table) -> Box<dyn Objective>,
}

/// Every method that is built.
pub const REGISTRY: &[Entry] = &[dpo::ENTRY, sft::ENTRY];

/// Methods of docs/methods.md that this version refuses.
pub const KNOWN_NOT_BUILT: &[&str] = &[
    "inpo",
    "smpo",
    "npo",
    "self_npo",
    "rankdpo",
    "lipo_lambda",
    "plackett_luce",
    "mpo",
    "dspo_score",
    "dspo_sq",
    "dmpo",
    "exo",
    "kto",
    "mapo",
    "d3po",
    "spo",
    "tailorpo",
    "ddpo",
    "dpok",
    "dense-reward",
    "ipo",
    "hinge",
    "mappo",
    "hypo",
    "nca",
    "bco",
    "sppo_hard",
    "apo_zero",
    "apo_down",
    "cdpo",
    "rdpo",
    "odpo",
    "focalpo",
    "dpo_shift",
    "rpo",
    "todo",
    "wpo",
    "discopop",
    "timestep-aware",
    "dense-timesteps",
    "balanced",
];

/// Keys that every offline method has.
pub const PROMPT_DROPOUT: Key = key(
    "prompt_dropout",
    Kind::Real(Range::UNIT),
    Default::Toml("0.2"),
    "probability of the empty prompt, drawn for the whole pair",
);
pub const ERROR: Key = key(
    "error",
    Kind::Choice(&["epsilon", "native"], &[]),
    Default::Toml("\"epsilon\""),
    "space of margins and metrics of v models",
);

/// The registered method called `name`.
pub fn find(name: &str) -> Option<&'static Entry> {
    REGISTRY.iter().find(|e| e.name == name)
}

/// The method that a checked or resolved configuration names.
pub fn entry_of(config: &toml::Table) -> &'static Entry {
    let name = config.get("method").and_then(|m| m.get("name")).and_then(toml::Value::as_str);
    name.and_then(find).unwrap_or(&dpo::ENTRY)
}

/// What the method of a checked configuration needs.
pub fn needs_of(config: &toml::Table) -> Needs {
    entry_of(config).needs
}

/// Sum of the losses of a micro-batch and its derivative with respect to each leaf.
pub struct Derivative {
    /// `[n]`, detached.
    pub losses: Tensor,
    /// `[n]`, detached; `None` where the method has no logit.
    pub logits: Option<Tensor>,
    /// d(sum of losses)/d theta_w and theta_l, `[n]` each.
    pub d_theta_w: Tensor,
    pub d_theta_l: Option<Tensor>,
}

/// Evaluates `objective` on detached copies of `errors` and differentiates the sum of its losses.
///
/// # Errors
/// When libtorch refuses the backward pass.
pub fn differentiate(
    objective: &dyn Objective,
    errors: &PairErrors,
    step: &StepContext,
) -> Result<Derivative, tch::TchError> {
    let leaf = |t: &Tensor| t.detach().set_requires_grad(true);
    let theta_w = leaf(&errors.theta_w);
    let theta_l = errors.theta_l.as_ref().map(leaf);
    let leaves = PairErrors {
        theta_w: theta_w.shallow_clone(),
        theta_l: theta_l.as_ref().map(Tensor::shallow_clone),
        ref_w: errors.ref_w.as_ref().map(Tensor::detach),
        ref_l: errors.ref_l.as_ref().map(Tensor::detach),
        epsilon_factor: errors.epsilon_factor.detach(),
    };
    let losses = objective.losses(&leaves, step);
    let logits = objective.logits(&leaves, step).map(|u| u.detach());
    let mut inputs = vec![theta_w];
    if objective.needs().loser {
        inputs.extend(theta_l);
    }
    let total = losses.f_sum(losses.kind())?;
    let grads = Tensor::f_run_backward(&[total], &inputs, false, false)?;
    let mut grads = grads.into_iter();
    let d_theta_w = grads.next().unwrap_or_else(|| inputs[0].zeros_like());
    Ok(Derivative { losses: losses.detach(), logits, d_theta_w, d_theta_l: grads.next() })
}

#[cfg(test)]
mod tests;
