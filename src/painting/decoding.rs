//! From latents to pictures within the free memory: one picture at a time, as a whole or in tiles.

use crate::machine::bytes::in_words;
use crate::machine::memory;
use crate::progress::Progress;
use anyhow::Result;
use pipelines::models::AutoencoderKl;
use pipelines::sampling::to_bytes;
use pipelines::weights::is_finite;
use tch::{Device, Tensor};

/// Whether a picture larger than a tile is decoded in tiles, which needs less memory and changes the picture. Auto: where
/// it would not fit in memory otherwise.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, clap::ValueEnum)]
pub enum Tiling {
    #[default]
    Auto,
    On,
    Off,
}

/// The VAE decoded finite latents to values that are not finite.
#[derive(Debug, thiserror::Error)]
#[error("the VAE's picture {} of the batch is not finite", row + 1)]
pub struct NotFinite {
    /// Place of the picture in the batch.
    pub row: usize,
}

/// Decoding of latents: one picture at a time, as a whole or in tiles. A whole batch would need a multiple of the
/// memory, and rounds differently, so that a picture would depend on its neighbours.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Decoding {
    pub tiled: bool,
    /// Bytes for one picture as a whole.
    whole: u64,
}

impl Decoding {
    /// Chooses for pictures of `height` x `width` pixels with `free` bytes of memory. None: unknown, treated as
    /// enough.
    pub fn choose(vae: &AutoencoderKl, height: i64, width: i64, tiling: Tiling, free: Option<u64>) -> Self {
        let factor = vae.factor();
        let tiles = vae.config().tiles().filter(|tiles| tiles.divide(height / factor, width / factor));
        let whole = vae.config().decoding_bytes(height, width, vae.kind());
        let tiled = match tiling {
            Tiling::On => tiles.is_some(),
            Tiling::Off => false,
            Tiling::Auto => tiles.is_some() && free.is_some_and(|free| whole > free),
        };
        Self { tiled, whole }
    }

    /// [`Decoding::choose`] with the memory that is free now; reports tiles chosen for lack of memory.
    pub fn for_memory(
        vae: &AutoencoderKl,
        (height, width): (i64, i64),
        tiling: Tiling,
        device: Device,
        progress: &dyn Progress,
    ) -> Self {
        let free = memory::on(device);
        let chosen = Self::choose(vae, height, width, tiling, free);
        if let (true, Tiling::Auto, Some(free)) = (chosen.tiled, tiling, free) {
            progress.line(&format!(
                "note: to decode {width} x {height} pixels takes about {} and {} are free, so the VAE works in tiles, which \
                 changes the picture a little (--vae-tiling off: try it whole)",
                in_words(chosen.whole),
                in_words(free)
            ));
        }
        chosen
    }

    /// Scaled latents `[B, C, h, w]` to bytes `[B, H, W, 3]` on the CPU.
    ///
    /// # Errors
    /// [`NotFinite`]; errors of libtorch.
    pub fn decode(&self, vae: &AutoencoderKl, latents: &Tensor) -> Result<Tensor> {
        let decode = |(row, latents): (usize, &Tensor)| {
            let images = if self.tiled { vae.decode_tiled(latents)? } else { vae.decode(latents)? };
            match is_finite(&images)? {
                true => Ok(to_bytes(&images)?),
                false => Err(NotFinite { row }.into()),
            }
        };
        let pictures = latents.f_split(1, 0)?.iter().enumerate().map(decode).collect::<Result<Vec<_>>>()?;
        Ok(Tensor::f_cat(&pictures, 0)?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use pipelines::families::ModelFolder;
    use pipelines::weights::LoadOptions;
    use std::path::Path;
    use tch::Kind;

    fn vae() -> AutoencoderKl {
        let model = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/generate/model");
        let options = LoadOptions { device: Device::Cpu, kind: Kind::Float };
        ModelFolder::open(&model).unwrap().load_vae(None, &options).unwrap()
    }

    #[test]
    fn tiles_are_taken_where_a_picture_does_not_fit() {
        let vae = vae();
        // Tiles of this VAE have 32 pixels; its widest activation 16 channels.
        let whole = 5 * 16 * 64 * 64 * 4;
        let tiled = |tiling, free| Decoding::choose(&vae, 64, 64, tiling, free).tiled;
        assert!(!tiled(Tiling::Auto, None) && !tiled(Tiling::Auto, Some(whole)));
        assert!(tiled(Tiling::Auto, Some(whole - 1)));
        assert!(tiled(Tiling::On, None) && !tiled(Tiling::Off, Some(1)));
        assert!(!Decoding::choose(&vae, 32, 32, Tiling::On, Some(1)).tiled, "a picture of one tile is whole");
    }

    #[test]
    fn a_picture_has_the_same_bytes_alone_and_in_a_batch() {
        let _frozen = tch::no_grad_guard();
        let vae = vae();
        let latents = diffpref_native::Generator::cpu(3).randn(&[4, 4, 12, 24]);
        let whole = Decoding::choose(&vae, 24, 48, Tiling::Off, None);
        let batch = whole.decode(&vae, &latents).unwrap();
        for (row, alone) in latents.split(1, 0).iter().enumerate() {
            assert!(whole.decode(&vae, alone).unwrap().equal(&batch.narrow(0, row as i64, 1)), "{row}");
        }
        let at_once = to_bytes(&vae.decode(&latents).unwrap()).unwrap();
        let levels = (at_once.to_kind(Kind::Int) - batch.to_kind(Kind::Int)).abs().max().int64_value(&[]);
        assert!(levels <= 1, "{levels}: only rounding tells the batch at once from one at a time");
    }
}
