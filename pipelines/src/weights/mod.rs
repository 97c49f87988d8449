//! Weights on disk: safetensors files, component folders, and the loader of networks.

mod file;
mod loader;
mod options;
pub mod original;
mod store;
mod write;

pub use file::TensorFile;
pub use loader::{Loader, ParameterShapes, check_store};
pub use options::{LoadOptions, is_finite, not_finite};
pub use store::{WeightStore, component_files};
pub use write::{Entry, write_file, write_safetensors, write_streaming};
