//! The picture autoencoder: the network, and decoding in tiles.

mod network;
mod tiles;

pub use network::{AutoencoderKl, Moments, VaeConfig};
pub use tiles::Tiles;
