//! Networks. Parameter names equal the keys of diffusers' and transformers' files.

pub mod blip;
pub mod clip;
mod component;
pub mod config;
mod converted;
pub mod layers;
mod look_alike;
mod mobilenet;
mod mps;
pub mod recompute;
mod resnet;
pub mod unet;
pub mod vae;

pub use blip::{BlipModel, BlipShape};
pub use clip::{ClipConfig, ClipModel, ClipOutput, ClipTextConfig, ClipTextModel, ClipVisionModel, VisionOutput};
pub use component::LayerShapes;
pub use config::ConfigFile;
pub use layers::{Adapter, AdapterHost, AdapterSet, Adapters, Linear};
pub use mobilenet::MobileNet;
pub use mps::{CrossModel, CrossShape};
pub use recompute::Recompute;
pub use unet::{UNet2DConditionModel, UNetConfig};
pub use vae::{AutoencoderKl, Moments, Tiles, VaeConfig};
