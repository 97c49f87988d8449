//! `diffpref data`: data sets of all formats looked at, checked, converted, and encoded ahead.

mod contents;
mod convert;
mod encode;
mod gather;
mod inspect;
mod page;
mod summary;
mod validate;

pub use convert::{ConvertRequest, Converted, Target, convert};
pub use encode::{CacheRequest, Share, Views, encode_ahead};
pub use inspect::{InspectRequest, inspect};
pub use summary::Inspection;
pub use validate::{ValidateRequest, Validation, validate};
