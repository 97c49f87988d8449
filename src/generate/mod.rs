//! Pictures from prompts.
//!
//! * [`Painter`] is the reusable piece: model parts in, RGB pictures out, in batches, each from its own seed. `train`
//!   paints its sample grids with it, `eval` its prompts x seeds.
//! * [`run`] is the command: a [`Request`] becomes a folder of PNG files with metadata, `images.jsonl`, and a grid.
//!   [`compare`] runs several requests from the same noise.

mod compare;
mod decoding;
mod folder;
mod grid;
mod memory;
mod model;
mod painter;
mod planned;
mod png;
mod record;
mod run;
mod sampling;
mod sides;

pub use compare::{Compared, Side, compare};
pub use decoding::{Decoding, Tiling};
pub use grid::{Grid, grid};
pub use memory::PromptMemory;
pub use model::{LoraFile, Model, ModelRequest, Overrides, Worn, read_loras};
pub use painter::{Look, Network, Painted, Painter, Picture, check_size, picture_of};
pub use png::{base64, inline as inline_png, read_text as read_png_text, write as write_png};
pub use run::{Outcome, Request, run};
pub use sampling::{Sampling, SamplingRequest};
pub use sides::{Merge, NegativeRequest, NegativeSide};
