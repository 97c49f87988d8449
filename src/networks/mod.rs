//! The networks of a run: the policy, its reference, and the predictions of both.
//!
//! [`Networks`] predicts and changes nothing. It has all functions of a model (predict, noise, target, factor of the
//! error), so that samples, validation, rollouts and the trainer know neither UNets nor noise schedules.

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
pub use load::{load, load_start};
pub use machine::Machine;
pub use noised::{Noised, Space, mean_product, mean_square};
pub use policy::Policy;
pub use predict::{Model, Networks};
pub use reference::{
    Frozen, Measured, Moved, MovedState, Reference, Renewal, SharedLedger, StartValues, WithLedger, missing,
};
pub use truncated::{Truncated, Truncating};
pub use weights::{LORA_FILE, Swapped, copy_into, whole_lora, write_weights};
