//! Pictures as input of CLIP: resized, cropped or padded to a square, normalised by the mean and spread of its
//! training data.

use crate::data::resample::{Filter, resize};
use crate::data::transforms::{half_even, resized};
use anyhow::{Result, ensure};
use image::RgbImage;
use tch::{Kind, Tensor};

/// Mean of red, green and blue in CLIP's training data.
const MEAN: [f64; 3] = [0.48145466, 0.4578275, 0.40821073];
/// Their standard deviation.
const STD: [f64; 3] = [0.26862954, 0.26130258, 0.27577711];
/// Limit of pixels after a resize: a picture one pixel high would grow without end.
const MOST_PIXELS: u64 = 1 << 26;

/// Offset of a centre crop when the excess is odd.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Rounding {
    /// transformers' image processor on Pillow's pictures
    Down,
    /// torchvision, in the code of OpenAI, OpenCLIP and ImageReward
    HalfEven,
}

/// The way from a picture to a square.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Preprocessing {
    /// Shorter side resized (Pillow's bicubic, bit for bit), then the centre.
    Crop(Rounding),
    /// Longer side resized in float32 (bicubic), then black bars: HPSv2. torchvision before 0.17 did not antialias.
    Bars { antialias: bool },
}

impl Preprocessing {
    /// Pictures as `[B, 3, side, side]` float32 on the CPU.
    ///
    /// # Errors
    /// A picture without pixels, or so narrow that it would not fit into memory.
    pub fn batch(self, pictures: &[RgbImage], side: u32) -> Result<Tensor> {
        let one = |picture: &RgbImage| {
            let (width, height) = picture.dimensions();
            ensure!(width > 0 && height > 0, "a picture has {width} x {height} pixels: expected at least 1 x 1");
            let square = match self {
                Self::Crop(rounding) => crop(picture, side, rounding)?,
                Self::Bars { antialias } => bars(picture, side, antialias)?,
            };
            let each = |values: [f64; 3]| Tensor::from_slice(&values.map(|value| value as f32)).view([3, 1, 1]);
            Ok((square - each(MEAN)) / each(STD))
        };
        let batch = pictures.iter().map(one).collect::<Result<Vec<_>>>()?;
        Ok(Tensor::f_stack(&batch, 0)?)
    }
}

/// `[3, height, width]` float32 in [0, 1] of 8-bit pixels, row by row.
fn unit(bytes: &[u8], width: u32, height: u32) -> Tensor {
    let shape = [i64::from(height), i64::from(width), 3];
    Tensor::from_slice(bytes).view(shape).permute([2, 0, 1]).to_kind(Kind::Float) / 255.0
}

/// `[3, side, side]` in [0, 1]: the centre of the resized picture.
fn crop(picture: &RgbImage, side: u32, rounding: Rounding) -> Result<Tensor> {
    let (bytes, width, height) = shorter_side(picture, side)?;
    let offset = |long: u32| {
        let excess = i64::from(long) - i64::from(side);
        match rounding {
            Rounding::Down => excess / 2,
            Rounding::HalfEven => half_even(excess, 2),
        }
    };
    let (top, left, side) = (offset(height), offset(width), i64::from(side));
    Ok(unit(&bytes, width, height).f_narrow(1, top, side)?.f_narrow(2, left, side)?)
}

/// Bytes, width and height of the picture with a shorter side of `side` pixels.
fn shorter_side(picture: &RgbImage, side: u32) -> Result<(Vec<u8>, u32, u32)> {
    let (width, height) = resized(picture.width(), picture.height(), side);
    ensure!(
        u64::from(width) * u64::from(height) <= MOST_PIXELS,
        "a picture has {} x {} pixels: with a shorter side of {side} it would have {width} x {height}, more than can be \
         computed; crop it",
        picture.width(),
        picture.height()
    );
    Ok((resize(picture, width, height, Filter::Bicubic), width, height))
}

/// `[3, side, side]`: the whole picture between black bars, about in [0, 1]. The cubic kernel overshoots, and HPSv2
/// does not clamp.
fn bars(picture: &RgbImage, side: u32, antialias: bool) -> Result<Tensor> {
    let (width, height) = picture.dimensions();
    let scale = f64::from(side) / f64::from(width.max(height));
    let scaled = |length: u32| ((f64::from(length) * scale).round_ties_even() as i64).max(1);
    let (new_width, new_height) = (scaled(width), scaled(height));
    let pixels = unit(picture.as_raw(), width, height).unsqueeze(0);
    let size = [new_height, new_width];
    let resized = match antialias {
        true => pixels.f_internal_upsample_bicubic2d_aa(size, false, None, None)?,
        false => pixels.f_upsample_bicubic2d(size, false, None, None)?,
    };
    let (wide, high) = (i64::from(side) - new_width, i64::from(side) - new_height);
    let (left, top) = (wide / 2, high / 2);
    Ok(resized.squeeze_dim(0).f_constant_pad_nd([left, wide - left, top, high - top])?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde::Deserialize;
    use sha2::{Digest, Sha256};

    #[derive(Deserialize)]
    struct Case {
        width: u32,
        height: u32,
        resized: [u32; 2],
        sha256: String,
        left: [i64; 2],
        top: [i64; 2],
    }

    /// Integer noise over a ramp: `textured` in tests/golden/make_scorers.py.
    fn textured(width: u32, height: u32) -> RgbImage {
        RgbImage::from_fn(width, height, |x, y| {
            let (x, y) = (u64::from(x), u64::from(y));
            let noise = ((x * 2_654_435_761 + y * 40503 + x * y * 97) >> 7) % 61;
            image::Rgb([x * 3 + noise, y * 2 + noise * 2, x + y + noise].map(|value| (value % 256) as u8))
        })
    }

    #[test]
    fn resized_pictures_have_pillows_bytes() {
        let text = include_str!("../../../tests/golden/scorers/pillow.jsonl");
        let cases: Vec<Case> = text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        assert!(cases.len() >= 12);
        for case in cases {
            let picture = textured(case.width, case.height);
            let (bytes, width, height) = shorter_side(&picture, 224).unwrap();
            assert_eq!([width, height], case.resized, "{} x {}", case.width, case.height);
            assert_eq!(hex::encode(Sha256::digest(&bytes)), case.sha256, "{} x {}", case.width, case.height);
            let whole = unit(&bytes, width, height);
            for (rounding, left, top) in
                [(Rounding::Down, case.left[0], case.top[0]), (Rounding::HalfEven, case.left[1], case.top[1])]
            {
                let expected = whole.narrow(1, top, 224).narrow(2, left, 224);
                assert_eq!(crop(&picture, 224, rounding).unwrap(), expected, "{rounding:?} of {width} x {height}");
            }
        }
    }

    #[test]
    fn a_picture_too_narrow_for_a_crop_is_refused() {
        let said = shorter_side(&RgbImage::new(40_000, 1), 224).unwrap_err().to_string();
        assert!(said.starts_with("a picture has 40000 x 1 pixels") && said.ends_with("crop it"), "{said}");
        assert!(Preprocessing::Bars { antialias: true }.batch(&[RgbImage::new(40_000, 1)], 224).is_ok());
    }
}
