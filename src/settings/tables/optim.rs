//! [optim]: how weights follow gradients.

use crate::keys::{Kind, Range, at_least, of, one_of, within};
use serde::{Deserialize, Serialize};

crate::choice! {
    /// `[optim] name`
    pub enum Optimizer {
        Adamw = "adamw",
        /// Moments in 8 bits.
        Adamw8bit = "adamw8bit",
        Adafactor = "adafactor",
    }
}

crate::choice! {
    /// `[optim] lr_scale`
    pub enum LrScale {
        None = "none",
        GlobalBatch = "global_batch",
    }
}

crate::choice! {
    /// `[optim] schedule`
    pub enum Schedule {
        Constant = "constant",
        Cosine = "cosine",
        Linear = "linear",
    }
}

crate::keys! {
    pub struct Parsed {
        /// torch.optim.AdamW, the same with moments in 8 bits, or transformers' Adafactor
        name: Optimizer = one_of::<Optimizer>().or_text("adamw"),
        /// learning rate, as the optimizer sees it
        lr: f64 = within(Range::POSITIVE).required(),
        /// global_batch: lr x pairs per step
        lr_scale: LrScale = one_of::<LrScale>().or_text("none"),
        /// decay of the moments; not adafactor
        betas: (f64, f64) = of(Kind::RealPair(Range::FRACTION)).or("[0.9, 0.999]"),
        /// added to the denominator; not adafactor
        eps: f64 = within(Range::POSITIVE).or("1e-8"),
        /// decoupled
        weight_decay: f64 = within(Range::NOT_NEGATIVE).or("0.01"),
        /// global gradient norm is clipped to this
        max_grad_norm: f64 = within(Range::POSITIVE).or("1.0"),
        /// after warm-up
        schedule: Schedule = one_of::<Schedule>().or_text("constant"),
        /// linear warm-up
        warmup_steps: u64 = at_least(0).or("0"),
    }
}

#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct OptimConfig {
    #[serde(flatten)]
    pub rule: RuleConfig,
    pub lr: f64,
    pub lr_scale: LrScale,
    pub weight_decay: f64,
    pub max_grad_norm: f64,
    pub schedule: Schedule,
    pub warmup_steps: u64,
}

/// `optim.name` and the keys of that optimizer.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(tag = "name", rename_all = "lowercase")]
pub enum RuleConfig {
    Adamw { betas: (f64, f64), eps: f64 },
    Adamw8bit { betas: (f64, f64), eps: f64 },
    Adafactor,
}

impl Optimizer {
    /// Keys that it does not read.
    pub fn unread(self) -> &'static [&'static str] {
        match self {
            Self::Adamw | Self::Adamw8bit => &[],
            Self::Adafactor => &["betas", "eps"],
        }
    }
}

impl Parsed {
    /// The values as run.
    pub fn resolve(&self) -> OptimConfig {
        let Self { name, lr, lr_scale, betas, eps, weight_decay, max_grad_norm, schedule, warmup_steps } = *self;
        let rule = match name {
            Optimizer::Adamw => RuleConfig::Adamw { betas, eps },
            Optimizer::Adamw8bit => RuleConfig::Adamw8bit { betas, eps },
            Optimizer::Adafactor => RuleConfig::Adafactor,
        };
        OptimConfig { rule, lr, lr_scale, weight_decay, max_grad_norm, schedule, warmup_steps }
    }
}
