//! Which candidates of a prompt become pairs: one file per rule.

mod all;
mod best;
mod best_worst;
mod mu_2sigma;
mod rule;
mod worst_of_five;

pub use rule::Rule;
