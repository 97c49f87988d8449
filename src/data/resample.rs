//! Pillow's resize, bit for bit (Resample.c). No crate gives its bytes, and published models and scores were made with
//! them. The kernel is widened when the image shrinks. Pillow 13 shrinks pictures more than twice as high as wide
//! vertically first; earlier versions, and so published scores, do not.

use image::RgbImage;

/// A kernel of Pillow.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Filter {
    /// The triangle.
    Bilinear,
    /// Cubic convolution with a = -0.5.
    Bicubic,
}

impl Filter {
    /// Distance from the centre beyond which the kernel is 0, in pixels of the image, or of the result if that is
    /// smaller.
    fn support(self) -> f64 {
        match self {
            Self::Bilinear => 1.0,
            Self::Bicubic => 2.0,
        }
    }

    fn weight(self, x: f64) -> f64 {
        let x = x.abs();
        match self {
            Self::Bilinear => (1.0 - x).max(0.0),
            // Pillow's order of operations: the last bit depends on it.
            Self::Bicubic if x < 1.0 => ((A + 2.0) * x - (A + 3.0)) * x * x + 1.0,
            Self::Bicubic if x < 2.0 => (((x - 5.0) * x + 8.0) * x - 4.0) * A,
            Self::Bicubic => 0.0,
        }
    }
}

/// Parameter of the cubic kernel.
const A: f64 = -0.5;

/// Pillow's `Image.resize((width, height), filter)`, row by row: horizontal pass, then vertical, 8 bits between them.
/// A pass without a change of size is left out.
pub fn resize(image: &RgbImage, width: u32, height: u32, filter: Filter) -> Vec<u8> {
    let (from_w, from_h) = (image.width() as usize, image.height() as usize);
    let (width, height) = (width as usize, height as usize);
    let mut pixels = image.as_raw().clone();
    if width != from_w {
        let taps = taps(from_w, width, filter);
        pixels = pixels.chunks_exact(from_w * 3).flat_map(|row| horizontal(row, &taps)).collect();
    }
    if height != from_h {
        pixels = taps(from_h, height, filter).iter().flat_map(|t| vertical(&pixels, width * 3, t)).collect();
    }
    pixels
}

/// The pixels of one output pixel: index of the first, and their weights in units of 2^-22.
struct Taps {
    first: usize,
    weights: Vec<i32>,
}

/// Bits of the fraction of a weight: 32 less 8 for the pixel and 2 for headroom, as in Pillow's Resample.c.
const PRECISION: i32 = 22;

fn taps(from: usize, to: usize, filter: Filter) -> Vec<Taps> {
    let scale = from as f64 / to as f64;
    let stretch = scale.max(1.0);
    let support = filter.support() * stretch;
    (0..to)
        .map(|i| {
            let centre = (i as f64 + 0.5) * scale;
            let first = (centre - support + 0.5).max(0.0) as usize;
            let end = ((centre + support + 0.5) as usize).min(from);
            // Pillow multiplies by 1 / stretch here and divides by the sum below: the last bit depends on it.
            let weights: Vec<f64> =
                (first..end).map(|x| filter.weight((x as f64 - centre + 0.5) * (1.0 / stretch))).collect();
            let sum: f64 = weights.iter().sum();
            let fixed = |w: &f64| {
                let w = if sum == 0.0 { *w } else { w / sum } * f64::from(1 << PRECISION);
                (if w < 0.0 { w - 0.5 } else { w + 0.5 }) as i32
            };
            Taps { first, weights: weights.iter().map(fixed).collect() }
        })
        .collect()
}

fn horizontal<'a>(row: &'a [u8], taps: &'a [Taps]) -> impl Iterator<Item = u8> + 'a {
    taps.iter().flat_map(move |t| {
        let mut sums = [1i32 << (PRECISION - 1); 3];
        for (pixel, weight) in row[t.first * 3..].chunks_exact(3).zip(&t.weights) {
            for (sum, value) in sums.iter_mut().zip(pixel) {
                *sum += i32::from(*value) * weight;
            }
        }
        sums.map(clip)
    })
}

/// One output row from the rows in `taps`; `stride` values per row.
fn vertical(pixels: &[u8], stride: usize, taps: &Taps) -> Vec<u8> {
    let mut sums = vec![1i32 << (PRECISION - 1); stride];
    for (row, weight) in pixels[taps.first * stride..].chunks_exact(stride).zip(&taps.weights) {
        for (sum, value) in sums.iter_mut().zip(row) {
            *sum += i32::from(*value) * weight;
        }
    }
    sums.into_iter().map(clip).collect()
}

fn clip(sum: i32) -> u8 {
    (sum >> PRECISION).clamp(0, 255) as u8
}
