//! Methods that sample while they train.

mod config;
mod failures;
mod held_out;
mod iterations;
mod numbers;
