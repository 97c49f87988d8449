//! Diffusion models for training: networks, formats, schedulers and sampling. No training, no files of a run, no
//! command line.

pub mod conditioning;
pub mod dtype;
pub mod error;
pub mod families;
pub mod hub;
pub mod inversion;
pub mod levels;
pub mod lora;
pub mod models;
pub mod network;
pub mod process;
pub mod sampling;
pub mod schedulers;
pub mod text;
pub mod weights;
pub mod wordpiece;

pub use conditioning::Conditioning;
pub use dtype::Dtype;
pub use error::{Error, Result};
pub use levels::{LevelRange, Levels};
pub use network::{Architecture, Network};
pub use process::Process;
