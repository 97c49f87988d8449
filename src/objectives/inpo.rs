//! InPO (DDIM-InPO): "Inversion Preference Optimization with Reparametrized DDIM for Efficient Diffusion Model Alignment",
//! arXiv 2503.18454 (docs/methods.md, section 4).
//!
//! ```text
//! x_t = DDIM inversion of x_0 by the policy,   tau = (x_t - a_t x_0) / s_t
//! e = mean (eps(x_t, t, c) - tau)^2,   u = 0.5 beta h,   loss = -log sigma(u)
//! ```
//!
//! Winner and loser have each their own tau and share t. The trainer makes x_t and tau; the loss is DPO's.

use super::dpo::Dpo;
use super::needs::Inverter;
use super::{BETA_AUTO, ERROR, Entry, Needs, Objective, PROMPT_DROPOUT};
use crate::keys::{Default, Key, Kind, Range, key};

const BETA: Key = Key { default: Default::ByFamily("2000.0"), ..BETA_AUTO };
pub const INVERSION: Key = key(
    "inversion",
    Kind::Choice(&["exact", "published"], &[]),
    Default::Toml("\"exact\""),
    "exact: up to t itself; published: up to the next level of a grid, as the public code does",
);
pub const INVERSION_STEPS: Key = key(
    "inversion_steps",
    Kind::Int { min: 1, max: 1000 },
    Default::Toml("10"),
    "steps of a whole inversion, from 0 to the last timestep",
);

pub const ENTRY: Entry = Entry {
    name: "inpo",
    keys: &[
        BETA,
        INVERSION,
        INVERSION_STEPS,
        key("inversion_eta", Kind::Real(Range::UNIT), Default::Toml("0.0"), "share of noise added after each step"),
        PROMPT_DROPOUT,
        ERROR,
    ],
    needs: Needs { inversion: Some(Inverter::Ddim), ..Needs::PAIRS },
    build: |_| Objective::Pairs(Box::new(Dpo)),
};
