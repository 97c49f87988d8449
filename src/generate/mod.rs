//! `diffpref generate` as a library call: [`run`] makes a folder of PNG files with metadata, `images.jsonl` and a grid
//! from a [`Request`]; [`compare`] runs several requests from the same noise.

mod compare;
mod folder;
mod planned;
mod record;
mod request;
mod run;

pub use compare::{Compared, Side, compare};
pub use request::Request;
pub use run::{Outcome, run};
