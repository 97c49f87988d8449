//! The layout of single-file checkpoints, as published by CompVis and Stability and used by A1111, ComfyUI and kohya:
//! the place of every name of the diffusers layout in such a file, and the conversion between the tensors.

mod form;
mod openclip;
mod unet;
mod vae;

pub use form::Form;
pub use openclip::openclip_place;
pub use unet::{UNetLayout, unet_name};
pub use vae::vae_place;
