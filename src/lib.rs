//! diffpref aligns Stable Diffusion models with preferences. `ARCHITECTURE.md` is the map.

pub mod chain;
pub mod data;
pub mod eval;
pub mod generate;
pub mod heads;
pub mod keys;
pub mod machine;
pub mod metrics;
pub mod networks;
pub mod numbers;
pub mod objectives;
pub mod optimizer;
pub mod painting;
pub mod pairs;
pub mod progress;
pub mod publish;
pub mod report;
pub mod rollout;
pub mod run_folder;
pub mod score;
pub mod scorer_training;
pub mod scorers;
pub mod settings;
pub mod train;
pub mod world;
