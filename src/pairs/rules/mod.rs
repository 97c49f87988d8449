//! Which candidates of a prompt become pairs: one file per rule.

mod all;
mod best;
mod best_worst;
mod mu_2sigma;
mod rule;
mod worst_of_five;

pub use best_worst::chosen as best_and_worst;
pub use rule::Rule;
