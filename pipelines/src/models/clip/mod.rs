//! CLIP (arXiv 2103.00020): the text tower, the vision tower, and both as one model.

mod block;
mod config;
mod layout;
mod model;
mod open_clip;
mod text;
mod vision;
mod write;

pub use block::{Activation, BlockShape};
pub use config::ClipConfig;
pub use model::{ClipModel, open_store};
pub use text::{ClipOutput, ClipTextConfig, ClipTextModel};
pub use vision::{ClipVisionConfig, ClipVisionModel, VisionOutput};
pub use write::write_like;
