//! diffpref aligns Stable Diffusion models with preferences. `ARCHITECTURE.md` is the map.

pub mod data;
pub mod eval;
pub mod export;
pub mod generate;
pub mod keys;
pub mod machine;
pub mod merge;
pub mod objectives;
pub mod progress;
pub mod report;
pub mod reward;
pub mod scorers;
pub mod settings;
pub mod train;
