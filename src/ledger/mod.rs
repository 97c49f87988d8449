//! The reference ledger: errors of a frozen reference, kept in the cache folder and read instead of its forward pass.
//!
//! `<cache>/ledger/<HEX>/` holds the errors of one reference on one kind of machine ([`Origin`], in origin.json) as shards
//! with a checksum per record. A record has the errors of the rows of one forward pass. Its key is a hash of the rows
//! themselves: latents, noise, noise levels and conditioning. Whatever shapes them is thereby part of the key.

mod key;
mod listing;
mod origin;
mod shard;
mod store;
mod used;

pub use key::{Key, of_rows};
pub use listing::{Listed, Stored, ledgers};
pub use origin::Origin;
pub use store::{ErrorLedger, Part, folder};
pub use used::{USED, Used};
