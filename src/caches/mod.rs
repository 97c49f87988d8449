//! The command `cache`: what is stored in the cache folder, who uses it, and removal of what nobody does.

mod ledgers;

pub use ledgers::{Ledgers, LedgersRequest, Of, ledgers};
