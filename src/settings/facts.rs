//! Facts of model, data and machine that decide "auto" and defaults.

use crate::data::items::Format;
use pipelines::families::Family;
use pipelines::schedulers::PredictionType;

/// Why a value does not go with the facts, without the file.
pub type Refusal = String;

/// Facts of model, data and machine.
#[derive(Debug, Clone)]
pub struct Facts {
    /// The UNet's sample_size times the VAE's factor, in pixels.
    pub native_resolution: i64,
    /// Pixels per latent.
    pub vae_factor: i64,
    /// Value of the model.
    pub prediction_type: PredictionType,
    /// Value of the model's scheduler.
    pub zero_terminal_snr: bool,
    pub family: Family,
    /// The largest clip_skip for which the text encoders have layers.
    pub most_clip_skip: i64,
    /// Format of the data; without meaning where the method reads none.
    pub format: Format,
    /// Least and greatest score of `method.scorer` over all images of the training pairs.
    pub score_range: Option<[f64; 2]>,
    /// T
    pub timesteps: i64,
    /// Training items left after row checks and split; 0 for a method without items.
    pub items: u64,
    /// Prompts of the sample grid: those of its file, or by default some training prompts.
    pub sample_prompts: Vec<String>,
    /// Number of distinct prompts of [rollout]; 0 for a method without prompts.
    pub prompts: usize,
    pub cuda: bool,
    pub cores: usize,
    pub cache_dir: String,
    /// Expansion of `~` in `data.cache_dir`.
    pub home: Option<String>,
}
