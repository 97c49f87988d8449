//! The language of keys: one declaration per configuration key, for the checker, `resolved.toml`, the commands and
//! the docs.

mod auto;
mod choice;
mod declared;
mod error;
mod key;
mod kind;
mod range;

pub use auto::Auto;
pub use choice::Choice;
pub use declared::{Keys, count, join};
pub use error::{ConfigError, Result};
pub use key::{Default, Key, OnResume, at_least, of, one_of, switch, text, whole, within};
pub use kind::{Kind, nearest};
pub use range::Range;
