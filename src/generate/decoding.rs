//! From latents to pictures in the memory that there is: the batch at once, a few pictures at a time, or in tiles.

use super::free_memory;
use crate::progress::Progress;
use anyhow::Result;
use pipelines::models::AutoencoderKl;
use pipelines::sampling::to_bytes;
use tch::{Device, Tensor};

/// Whether a picture larger than a tile is decoded in tiles: it costs less memory and changes the picture.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Tiling {
    /// Where it would not fit in memory otherwise.
    #[default]
    Auto,
    On,
    Off,
}

/// How a batch is decoded.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Decoding {
    /// Pictures at once; fewer change no byte.
    pub rows: i64,
    pub tiled: bool,
    /// Bytes for one picture as a whole.
    whole: u64,
}

impl Decoding {
    /// Chooses for pictures of `height` x `width` pixels with `free` bytes of memory; None: nobody knows, so all is taken
    /// to fit.
    pub fn choose(vae: &AutoencoderKl, height: i64, width: i64, tiling: Tiling, free: Option<u64>) -> Self {
        let factor = vae.factor();
        let bytes = |height: i64, width: i64| vae.config().decoding_bytes(height, width, vae.kind()).max(1);
        let tiles = vae.config().tiles().filter(|tiles| tiles.divide(height / factor, width / factor));
        let (whole, free) = (bytes(height, width), free.unwrap_or(u64::MAX));
        let tiled = match tiling {
            Tiling::On => tiles.is_some(),
            Tiling::Off => false,
            Tiling::Auto => tiles.is_some() && whole > free,
        };
        let each = match tiles.filter(|_| tiled) {
            // The picture itself, twice, beside the tiles of two rows.
            Some(tiles) => {
                let side = tiles.latents * factor;
                bytes(height.min(side), width.min(side)).saturating_add(bytes(height, width) / 50)
            }
            None => whole,
        };
        Self { rows: i64::try_from(free / each).unwrap_or(i64::MAX).max(1), tiled, whole }
    }

    /// As [`Decoding::choose`], with the memory that is free now; says it where memory decided for tiles.
    pub fn for_memory(
        vae: &AutoencoderKl,
        (height, width): (i64, i64),
        tiling: Tiling,
        device: Device,
        progress: &dyn Progress,
    ) -> Self {
        let free = free_memory::on(device);
        let chosen = Self::choose(vae, height, width, tiling, free);
        if let (true, Tiling::Auto, Some(free)) = (chosen.tiled, tiling, free) {
            progress.line(&format!(
                "note: to decode {width} x {height} pixels takes about {} and {} are free, so the VAE works in tiles, which \
                 changes the picture a little (--vae-tiling off: try it whole)",
                free_memory::in_words(chosen.whole),
                free_memory::in_words(free)
            ));
        }
        chosen
    }

    /// Scaled latents `[B, C, h, w]` to bytes `[B, H, W, 3]` on the CPU.
    pub fn decode(&self, vae: &AutoencoderKl, latents: &Tensor) -> Result<Tensor> {
        let batch = latents.size().first().copied().unwrap_or_default();
        let slice = |start: i64| {
            let latents = latents.f_narrow(0, start, self.rows.min(batch - start))?;
            let images = if self.tiled { vae.decode_tiled(&latents)? } else { vae.decode(&latents)? };
            Ok(to_bytes(&images)?)
        };
        let slices = (0..batch).step_by(usize::try_from(self.rows).unwrap_or(usize::MAX)).map(slice);
        Ok(Tensor::f_cat(&slices.collect::<Result<Vec<_>>>()?, 0)?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use pipelines::families::ModelFolder;
    use pipelines::weights::LoadOptions;
    use std::path::Path;
    use tch::Kind;

    #[test]
    fn memory_decides_on_slices_first_and_on_tiles_where_one_picture_does_not_fit() {
        let model = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/generate/model");
        let options = LoadOptions { device: Device::Cpu, kind: Kind::Float };
        let vae = ModelFolder::open(&model).unwrap().load_vae(None, &options).unwrap();
        // Tiles of this VAE have 32 pixels; its widest activation 16 channels.
        let whole = 5 * 16 * 64 * 64 * 4;
        let choose = |tiling, free| {
            let chosen = Decoding::choose(&vae, 64, 64, tiling, free);
            (chosen.rows, chosen.tiled)
        };
        assert_eq!(choose(Tiling::Auto, None), (choose(Tiling::Auto, Some(u64::MAX)).0, false));
        assert_eq!(choose(Tiling::Auto, Some(3 * whole)), (3, false));
        assert_eq!(choose(Tiling::Auto, Some(whole)), (1, false));
        assert_eq!(choose(Tiling::Auto, Some(whole - 1)), (3, true), "a tile takes a quarter, and the picture itself");
        assert_eq!(choose(Tiling::Auto, Some(1)), (1, true));
        assert_eq!(choose(Tiling::Off, Some(1)), (1, false));
        assert_eq!(choose(Tiling::On, Some(u64::MAX)).1, true);
        let small = Decoding::choose(&vae, 32, 32, Tiling::On, Some(1));
        assert_eq!((small.rows, small.tiled), (1, false), "a picture of one tile is whole");
    }
}
