//! BLIP (arXiv 2201.12086) as ImageReward trains it: a vision transformer, and a BERT that attends to the picture.

mod model;
mod text;
mod vision;

pub use model::{BlipModel, BlipShape, open_store};
