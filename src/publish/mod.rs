//! Models and LoRAs for other programs: `diffpref export` and `diffpref merge` as library calls.

pub mod export;
mod format;
mod lora_file;
pub mod merge;

pub use format::Format;
