//! From a decoded image to the pixels of the VAE: resize, crop, flip, scale to [-1, 1].
//!
//! The resize gives Pillow's bytes (`resample.rs`), by the triangle ("bilinear").

use super::image_ref::ImageRef;
use super::resample::{Filter, resize};
use super::unreadable::{MAX_PIXELS, Unreadable};
use image::RgbImage;
use tch::{Kind, Tensor};

/// Position of the crop along the longer side.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Crop {
    Center,
    /// Crop `index` of `count` (at least 2) evenly spaced ones.
    At {
        index: i64,
        count: i64,
    },
}

/// One transformed form of one image: the unit of the latent cache.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct View {
    pub image: ImageRef,
    pub flip: bool,
    pub crop: Crop,
}

impl View {
    /// The centre of an image, not flipped, for validation.
    pub fn center(image: ImageRef) -> Self {
        Self { image, flip: false, crop: Crop::Center }
    }
}

/// An image as the networks read it.
#[derive(Debug)]
pub struct Transformed {
    /// `[3, R, R]` float32 in [-1, 1]
    pub pixels: Tensor,
    /// Height and width of the file (upright), top and left of the crop in the resized image, R, R.
    pub time_ids: [i64; 6],
}

/// Resizes the shorter side to `resolution`, crops the square of the view, flips it if the view has it so.
///
/// # Errors
/// An image so narrow that its longer side would exceed the limit of decoded pixels.
pub fn apply(image: &RgbImage, resolution: u32, view: &View) -> Result<Transformed, Unreadable> {
    let (square, [top, left]) = square(image, resolution, view)?;
    let r = i64::from(resolution);
    // u8 / 127.5 - 1 in float32, [R, R, 3] -> [3, R, R]
    let pixels = Tensor::from_slice(&square).view([r, r, 3]).permute([2, 0, 1]).to_kind(Kind::Float).contiguous();
    let pixels = pixels / 127.5 - 1.0;
    let time_ids = [i64::from(image.height()), i64::from(image.width()), top, left, r, r];
    Ok(Transformed { pixels, time_ids })
}

/// The transform in bytes: `R x R x 3`, row by row, and top and left of the crop in the resized image.
pub fn square(image: &RgbImage, resolution: u32, view: &View) -> Result<(Vec<u8>, [i64; 2]), Unreadable> {
    let (width, height) = resized(image.width(), image.height(), resolution);
    let pixels = u64::from(width) * u64::from(height);
    if pixels == 0 || pixels > MAX_PIXELS as u64 {
        return Err(Unreadable::TooLarge { width: u64::from(width), height: u64::from(height) });
    }
    let pixels = resize(image, width, height, Filter::Bilinear);
    let offset = |long: u32| match view.crop {
        Crop::Center => half_even(i64::from(long - resolution), 2),
        Crop::At { index, count } => half_even(index * i64::from(long - resolution), (count - 1).max(1)),
    };
    let (top, left) = (offset(height), offset(width));
    let r = resolution as usize;
    let mut square = Vec::with_capacity(r * r * 3);
    for row in pixels.chunks_exact(width as usize * 3).skip(top as usize).take(r) {
        let row = &row[left as usize * 3..][..r * 3];
        if view.flip {
            square.extend(row.rchunks_exact(3).flatten());
        } else {
            square.extend_from_slice(row);
        }
    }
    Ok((square, [top, left]))
}

/// Width and height after the shorter side became `r`; the longer side is rounded down.
pub fn resized(width: u32, height: u32, r: u32) -> (u32, u32) {
    let scaled = |long: u32, short: u32| {
        let length = u64::from(r) * u64::from(long) / u64::from(short.max(1));
        u32::try_from(length).unwrap_or(u32::MAX)
    };
    if width.min(height) == r {
        (width, height)
    } else if width <= height {
        (r, scaled(height, width))
    } else {
        (scaled(width, height), r)
    }
}

/// a / b for a >= 0, b > 0, halves to the even neighbour (Python's `round`).
pub fn half_even(a: i64, b: i64) -> i64 {
    let (floor, rest) = (a / b, 2 * (a % b));
    if rest > b || (rest == b && floor % 2 == 1) { floor + 1 } else { floor }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn halves_go_to_the_even_neighbour() {
        assert_eq!([0, 1, 2, 3, 5, 7].map(|a| half_even(a, 2)), [0, 0, 1, 2, 2, 4]);
        assert_eq!([1, 2, 4, 5].map(|a| half_even(a, 3)), [0, 1, 1, 2]);
    }

    #[test]
    fn random_crops_reach_both_ends_and_time_ids_name_them() {
        let image = RgbImage::from_fn(20, 10, |x, _| image::Rgb([x as u8, 0, 0]));
        let view = |index| View { image: "".into(), flip: false, crop: Crop::At { index, count: 4 } };
        let lefts = [0, 1, 2, 3].map(|i| apply(&image, 10, &view(i)).unwrap().time_ids);
        assert_eq!(lefts.map(|t| t[3]), [0, 3, 7, 10]);
        assert_eq!(lefts[3], [10, 20, 0, 10, 10, 10]);
    }

    #[test]
    fn a_strip_that_would_grow_beyond_measure_is_refused() {
        let strip = RgbImage::new(1, 300_000);
        let error = apply(&strip, 512, &View::center("".into())).unwrap_err();
        assert!(error.to_string().contains("more than can be decoded"));
    }

    #[test]
    fn pixels_are_scaled_and_flipped() {
        let image = RgbImage::from_fn(2, 2, |x, y| image::Rgb([255 * x as u8, 255 * y as u8, 51]));
        let view = View { image: "".into(), flip: true, crop: Crop::Center };
        let pixels = apply(&image, 2, &view).unwrap().pixels;
        assert_eq!(pixels.size(), [3, 2, 2]);
        let values = Vec::<f32>::try_from(pixels.flatten(0, -1)).unwrap();
        assert_eq!(values[..8], [1.0, -1.0, 1.0, -1.0, -1.0, -1.0, 1.0, 1.0]);
        assert!((values[8] + 0.6).abs() < 1e-6);
    }
}
