//! The denoising network of Stable Diffusion 1.5, 2.1 and XL.

mod architecture;
mod blocks;
mod config;
mod embedding;
mod network;
mod transformer;

pub use config::{TextTime, UNetConfig};
pub use network::UNet2DConditionModel;
