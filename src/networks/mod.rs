//! The networks of a run: the policy, what it is compared with, and what both predict.
//!
//! [`Networks`] predicts and changes nothing. All questions to a model (predict, noise, target, factor of the error) are
//! asked here, so that samples, validation, rollouts and the trainer know neither UNets nor noise schedules.

mod inverted;
mod load;
mod machine;
mod noised;
mod policy;
mod predict;
mod reference;
mod truncated;
mod weights;

pub use inverted::{InversionWatch, Inverted, Inverting};
pub use load::load;
pub use machine::Machine;
pub use noised::{Noised, Space, mean_product, mean_square};
pub use policy::Policy;
pub use predict::{Model, Networks};
pub use reference::{Frozen, Measured, Moved, MovedState, Reference, Renewal, StartValues};
pub use truncated::{Truncated, Truncating};
pub use weights::{LORA_FILE, Swapped, copy_into, whole_lora, write_weights};
