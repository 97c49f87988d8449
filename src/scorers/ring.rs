//! The ground of a picture: what its border shows.

use image::RgbImage;

/// Width of the border in pixels.
const WIDTH: u32 = 3;
/// Weights of red, green and blue (ITU-R 601).
const LUMA: [f64; 3] = [0.299, 0.587, 0.114];

/// Lower median of each channel over the outermost 3 pixels, in [0, 1].
pub fn colour(picture: &RgbImage) -> [f64; 3] {
    let (width, height) = picture.dimensions();
    let inside = |at: u32, size: u32| at >= WIDTH && at + WIDTH < size;
    let border = || picture.enumerate_pixels().filter(|(x, y, _)| !(inside(*x, width) && inside(*y, height)));
    [0, 1, 2].map(|channel| {
        let mut values: Vec<u8> = border().map(|(_, _, pixel)| pixel.0[channel]).collect();
        values.sort_unstable();
        values.get(values.len().saturating_sub(1) / 2).map_or(0.0, |value| f64::from(*value) / 255.0)
    })
}

/// Luma of a colour, in [0, 1].
pub fn luma(colour: [f64; 3]) -> f64 {
    colour.iter().zip(LUMA).map(|(value, weight)| value * weight).sum()
}
