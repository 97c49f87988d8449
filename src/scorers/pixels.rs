//! Pictures as input of networks.

use anyhow::{Context, Result};
use image::RgbImage;
use image::imageops::{FilterType, resize};
use tch::{Kind, Tensor};

/// Pictures as `[B, 3, side, side]` float32 in [-1, 1] on the CPU; other sizes are resized (bilinear, antialiased).
pub fn pixels(pictures: &[RgbImage], side: u32) -> Result<Tensor> {
    let one = |picture: &RgbImage| {
        let fits = picture.dimensions() == (side, side);
        let resized = (!fits).then(|| resize(picture, side, side, FilterType::Triangle));
        let bytes = resized.as_ref().unwrap_or(picture).as_raw();
        Tensor::from_slice(bytes).view([i64::from(side), i64::from(side), 3]).permute([2, 0, 1]) // [3, side, side]
    };
    let batch: Vec<Tensor> = pictures.iter().map(one).collect();
    let batch = Tensor::f_stack(&batch, 0).context("cannot stack pictures into a batch")?;
    Ok(batch.to_kind(Kind::Float) / 127.5 - 1.0)
}

/// A picture as `[1, 3, side, side]` float32 in [-1, 1] on the CPU, stretched by Pillow's nearest neighbour. Pillow adds
/// up the step between columns in float64: its rounding moves single columns, which a closed formula does not repeat.
pub fn pillow_nearest(picture: &RgbImage, side: u32) -> Result<Tensor> {
    let sources = |size: u32| {
        let step = f64::from(size) / f64::from(side);
        std::iter::successors(Some(step / 2.0), move |at| Some(at + step)).take(side as usize).map(|at| at as u32)
    };
    let (columns, rows): (Vec<u32>, Vec<u32>) =
        (sources(picture.width()).collect(), sources(picture.height()).collect());
    let stretched = RgbImage::from_fn(side, side, |x, y| *picture.get_pixel(columns[x as usize], rows[y as usize]));
    pixels(&[stretched], side)
}
