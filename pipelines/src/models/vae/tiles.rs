//! Decoding in overlapping tiles, as diffusers' `enable_vae_tiling` does: the memory of one tile, for every picture
//! size.
//!
//! A tile normalises over itself alone, so a tiled picture differs from a whole one: seams are blended, tones may
//! drift from tile to tile.

use super::network::{AutoencoderKl, VaeConfig};
use crate::error::Result;
use tch::Tensor;

/// Sizes of tiles: squares that overlap by a quarter of the side.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Tiles {
    /// Side of a tile in latents.
    pub latents: i64,
    /// From one tile to the next in latents.
    step: i64,
    /// From one tile to the next in pixels.
    kept: i64,
    /// Pixels over which neighbours are blended.
    blended: i64,
}

impl Tiles {
    /// `sample_size`: pixels of a tile's side; `factor`: pixels per latent. None if the sizes are not whole numbers:
    /// diffusers then makes a picture of another size.
    fn of(sample_size: i64, factor: i64) -> Option<Self> {
        let latents = sample_size / factor;
        let (step, blended) = (latents * 3 / 4, sample_size / 4);
        let kept = sample_size - blended;
        (step > 0 && step * factor == kept).then_some(Self { latents, step, kept, blended })
    }

    /// Whether a picture of `height` x `width` latents is larger than a tile.
    pub fn divide(&self, height: i64, width: i64) -> bool {
        height.max(width) > self.latents
    }
}

impl VaeConfig {
    /// The tiles of diffusers: the side is `sample_size`. None if it cannot be divided.
    pub fn tiles(&self) -> Option<Tiles> {
        Tiles::of(self.sample_size, self.factor())
    }
}

impl AutoencoderKl {
    /// [`AutoencoderKl::decode`], tile by tile if the latents are larger than a tile.
    ///
    /// # Errors
    /// Those of `decode`, and a `sample_size` that cannot be tiled.
    pub fn decode_tiled(&self, latents: &Tensor) -> Result<Tensor> {
        let Some(tiles) = self.config.tiles() else {
            let expected = format!("a size of which 3/4 are a multiple of {}, to decode in tiles", self.factor());
            return Err(self.config.file().conflict("sample_size", expected));
        };
        let &[batch, _, height, width] = latents.size().as_slice() else { return self.decode(latents) };
        if !tiles.divide(height, width) {
            return self.decode(latents);
        }
        let factor = self.factor();
        let size = [batch, self.config.out_channels, height * factor, width * factor];
        let picture = Tensor::f_zeros(size, (self.kind, latents.device()))?;
        let mut above: Vec<Tensor> = Vec::new();
        for (row, top) in starts(height, tiles.step).enumerate() {
            let mut tiles_of_row: Vec<Tensor> = Vec::new();
            for (column, left) in starts(width, tiles.step).enumerate() {
                let tile = self.decode(&part(latents, top, tiles.latents, left, tiles.latents)?)?;
                // Both neighbours are blended already: diffusers blends in place too.
                if let Some(above) = above.get(column) {
                    blend(above, &tile, tiles.blended, 2)?;
                }
                if let Some(before) = tiles_of_row.last() {
                    blend(before, &tile, tiles.blended, 3)?;
                }
                let (y, x) = (row as i64 * tiles.kept, column as i64 * tiles.kept);
                let kept = part(&tile, 0, tiles.kept, 0, tiles.kept)?;
                part(&picture, y, tiles.kept, x, tiles.kept)?.f_copy_(&kept)?;
                tiles_of_row.push(tile);
            }
            above = tiles_of_row;
        }
        Ok(picture)
    }
}

fn starts(length: i64, step: i64) -> impl Iterator<Item = i64> {
    (0..length).step_by(step.max(1) as usize)
}

/// `[.., top .. top + height, left .. left + width]`, cut at the edges.
fn part(x: &Tensor, top: i64, height: i64, left: i64, width: i64) -> Result<Tensor> {
    let size = x.size();
    let rows = x.f_narrow(2, top, height.min(size[2] - top))?;
    Ok(rows.f_narrow(3, left, width.min(size[3] - left))?)
}

/// Fades `before` into `tile`, in place, over at most `extent` pixels along a dimension.
fn blend(before: &Tensor, tile: &Tensor, extent: i64, dim: i64) -> Result<()> {
    let side = before.size()[dim as usize];
    let extent = extent.min(side).min(tile.size()[dim as usize]);
    let shape: [i64; 2] = if dim == 2 { [extent, 1] } else { [1, extent] };
    let weight: Vec<f64> = (0..extent).map(|i| i as f64 / extent as f64).collect();
    let weight = Tensor::from_slice(&weight).view(shape);
    let on = |weight: &Tensor| weight.to_device(tile.device()).to_kind(tile.kind());
    let faded = before.f_narrow(dim, side - extent, extent)?.f_mul(&on(&(1.0 - &weight)))?;
    let mut start = tile.f_narrow(dim, 0, extent)?;
    let mixed = faded.f_add(&start.f_mul(&on(&weight))?)?;
    start.f_copy_(&mixed)?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tiles_are_those_of_diffusers() {
        assert_eq!(Tiles::of(512, 8), Some(Tiles { latents: 64, step: 48, kept: 384, blended: 128 }));
        assert_eq!(Tiles::of(1024, 8), Some(Tiles { latents: 128, step: 96, kept: 768, blended: 256 }));
        assert_eq!((Tiles::of(8, 8), Tiles::of(20, 8), Tiles::of(4, 8)), (None, None, None));
        assert!(Tiles::of(512, 8).is_some_and(|tiles| tiles.divide(64, 65) && !tiles.divide(64, 64)));
    }
}
