//! Scorers on CLIP: pictures as its input, features of pictures and prompts, and their cosine.

mod encoder;
mod pictures;
mod similarity;

pub(super) use encoder::{Encoder, FILES, check_prompt, float32, other_files, unit};
pub(super) use pictures::{Preprocessing, Rounding};
pub(super) use similarity::{Factor, Similarity};
