//! `diffpref generate --compare`: several models or option sets from the same noise, side by side.

mod gallery;
mod page;
mod run;
mod sheet;

pub use run::{Compared, Side, compare};
