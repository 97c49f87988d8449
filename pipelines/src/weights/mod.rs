//! Weights on disk: safetensors files, component folders, and the one way networks take tensors out of them.

mod file;
mod loader;
pub mod original;
mod store;
mod write;

pub use file::TensorFile;
pub use loader::{Loader, ParameterShapes, check_store};
pub use store::{WeightStore, component_files};
pub use write::{Entry, write_file, write_safetensors, write_streaming};

/// Where the weights of a network go and in which kind they are held there.
#[derive(Debug, Clone, Copy)]
pub struct LoadOptions {
    pub device: tch::Device,
    pub kind: tch::Kind,
}

impl LoadOptions {
    /// float32 on the CPU.
    pub fn cpu() -> Self {
        Self { device: tch::Device::Cpu, kind: tch::Kind::Float }
    }
}
