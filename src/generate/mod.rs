//! Pictures from prompts.
//!
//! * [`Painter`] is the reusable piece: model parts in, RGB pictures out, in batches, each from its own seed. `train`
//!   paints its sample grids with it, `eval` its prompts x seeds.
//! * [`run`] is the command: a [`Request`] becomes a folder of PNG files with metadata, `images.jsonl`, and a grid.

mod folder;
mod grid;
mod model;
mod painter;
mod png;
mod prompts;
mod record;
mod run;

pub use grid::{Grid, grid};
pub use model::{LoraFile, Model, ModelRequest, Overrides, read_loras};
pub use painter::{Look, Painter, Picture, PromptMemory, check_size, check_steps};
pub use png::{read_text as read_png_text, write as write_png};
pub use prompts::read as read_prompts;
pub use run::{Outcome, Request, run};

use crate::config::ConfigError;
use pipelines::schedulers::SchedulerConfig;

/// Samplers that `--scheduler` takes beside `auto`.
pub const SCHEDULERS: [&str; 1] = ["ddim"];

/// The sampler that `choice` means for a model: `auto` is the model's own, refused where it is not built.
pub fn resolve_scheduler(choice: &str, config: &SchedulerConfig) -> Result<&'static str, ConfigError> {
    match choice {
        "ddim" => Ok("ddim"),
        "auto" if config.class_name == "DDIMScheduler" => Ok("ddim"),
        "auto" => Err(ConfigError(format!(
            "--scheduler auto: the model's own scheduler is {} ({}), which is not built yet; there is: {}. \
             Add --scheduler {}",
            config.class_name,
            config.path.display(),
            SCHEDULERS.join(", "),
            SCHEDULERS[0]
        ))),
        other => Err(ConfigError(format!("--scheduler {other}: expected auto or {}", SCHEDULERS.join(", ")))),
    }
}
