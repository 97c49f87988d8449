//! Scorers on CLIP: pictures as its input, features of pictures and prompts, and their cosine.

mod encoder;
mod pictures;
mod similarity;

pub use encoder::{Encoder, other_files};
pub(super) use encoder::{FILES, check_prompt, float32, unit};
pub use pictures::{Preprocessing, Rounding};
pub(super) use similarity::{Factor, Similarity};
