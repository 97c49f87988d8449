//! Model families: parts of a model, conditioning, prediction types, layout of single files. The only place that
//! knows a family's name.
//!
//! A family is one [`Declaration`], in a file of its own, and its line in `registry.rs`. All other code uses a
//! [`ModelFolder`], a [`TextEncoder`] or a [`Denoiser`].

mod combination;
mod configs;
mod declaration;
mod denoiser;
mod encoded;
mod export;
mod files;
mod folder;
mod layout;
mod mixed;
mod model_weights;
mod recognise;
mod registry;
mod relatives;
mod sd1;
mod sd2;
mod sdxl;
mod single_file;
mod standard;
mod standard_lora;
mod text;
mod unet;

pub use combination::{Change, Combination, Difference, Extracted, Layers};
pub use configs::{Configs, Latent};
pub use declaration::{Declaration, EmptySide, Family};
pub use denoiser::Denoiser;
pub use export::{Export, Labels, write_unet};
pub use files::ModelFiles;
pub use folder::ModelFolder;
pub use mixed::UnetTerm;
pub use model_weights::ModelWeights;
pub use registry::{families, family_named, family_of_context_width};
pub use standard::clip_tokenizer;
pub use standard_lora::standard_of_lora;
pub use text::{Encoder, TextAdapters, TextEncoder};
