//! All end-to-end tests in one binary: one link step, and helpers that nobody uses show as dead code.

mod chain;
mod data;
mod datasets;
mod declared;
mod doctor;
mod eval;
mod external_scorers;
mod generate;
mod help;
mod hub;
mod own_labels;
mod pairs;
mod publish;
mod recipes;
mod report;
mod rollout;
mod runs;
mod score;
mod scorer_training;
mod scorers;
mod support;
mod sweep;
mod train;
