//! References of the policy: one file per kind.

mod frozen;
mod measured;
mod moved;
mod start_values;
mod with_ledger;

pub use frozen::Frozen;
pub use measured::{Measured, Reference};
pub use moved::{Moved, MovedState, Renewal};
pub use start_values::StartValues;
pub use with_ledger::{SharedLedger, WithLedger, missing};
