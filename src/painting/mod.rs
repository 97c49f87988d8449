//! Pictures from a model. [`ModelRequest`] names the model, [`Model`] holds it in memory, [`Painter`] makes RGB
//! pictures from its parts, each from its own seed. Shared by `generate`, `eval`, the samples of `train` and its
//! rollouts.

mod contents;
mod decoding;
mod grid;
mod model;
mod painter;
mod png;
mod prompt_memory;
mod request;
mod sampling;
mod sides;

pub use contents::{LoraRecord, NegativeRecord, lora_records};
pub use decoding::{Decoding, Tiling};
pub use grid::{Grid, grid};
pub use model::{Model, Worn, read_loras};
pub use painter::{Look, Network, Painted, Painter, Picture, check_size, picture_of};
pub use png::{
    encode as encode_png, inline as inline_png, inline_picture, read_text as read_png_text, write as write_png,
};
pub use prompt_memory::PromptMemory;
pub use request::{LoraFile, Merge, ModelRequest, NegativeRequest, Overrides};
pub use sampling::{Sampling, SamplingRequest};
pub use sides::NegativeSide;
