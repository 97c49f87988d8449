//! One number per candidate from several measures: one file per rule. Higher is better everywhere.

mod borda;
mod combination;
mod copeland;
mod dowdall;
mod log_sigmoid;
mod mean;
mod minimax;
mod plurality;
mod ranks;
mod robust;
mod win_fraction;

pub use combination::{Combination, Combined, Table};
pub use mean::standardised;
pub use ranks::Ranks;
pub use robust::{FEWEST, Robust, Votes, robust};
