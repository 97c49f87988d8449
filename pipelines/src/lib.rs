//! Diffusion models for training: what a model is. Networks, formats, schedulers and sampling; no training, no files
//! of a run, no command line.

pub mod dtype;
pub mod error;
pub mod families;
pub mod hub;
pub mod inversion;
pub mod lora;
pub mod models;
pub mod sampling;
pub mod schedulers;
pub mod text;
pub mod weights;

pub use dtype::Dtype;
pub use error::{Error, Result};
