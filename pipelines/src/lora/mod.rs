//! LoRA weights (arXiv 2106.09685): weights of a network, files in every naming, lower ranks.

mod file;
mod read;
mod reduce;
mod targets;
mod weights;
mod write;

pub use file::Lora;
pub(crate) use reduce::check_rank;
pub use reduce::{Reduced, Truncation};
pub use targets::{LoraTargets, Network};
pub use weights::{LoraModule, LoraWeights};
