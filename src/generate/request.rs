//! The options of `diffpref generate`.

use crate::painting::{ModelRequest, SamplingRequest, Tiling};
use std::path::PathBuf;

/// Options of `diffpref generate`.
#[derive(Debug, Clone)]
pub struct Request {
    pub model: ModelRequest,
    pub prompts: Vec<String>,
    /// None: default of the model's pipeline for the side without a prompt.
    pub negative_prompt: Option<String>,
    pub sampling: SamplingRequest,
    /// Picture i of every prompt has the seed `seed + i`.
    pub seed: u64,
    pub num_images: u64,
    /// None: the training size of the UNet.
    pub width: Option<i64>,
    pub height: Option<i64>,
    pub batch: usize,
    pub tiling: Tiling,
    /// Whether to write grid.png too.
    pub grid: bool,
    pub resume: bool,
    pub out: PathBuf,
    /// Folder of remembered hashes of large files.
    pub cache_dir: PathBuf,
}
