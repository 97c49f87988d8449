//! Pairs that are kept: one file per requirement.

mod pareto;
mod requirement;
mod vote;

pub use requirement::Requirement;
