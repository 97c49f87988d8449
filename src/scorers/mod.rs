//! Judges: what a picture shows and in which style it is drawn.

mod drawings;
mod nearest;
mod trained;

pub use drawings::Drawings;
pub use nearest::Nearest;
pub use trained::TrainedJudge;

use anyhow::{Context, Result};
use image::RgbImage;
use image::imageops::{FilterType, resize};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use tch::{Kind, Tensor};

/// Pictures that go through a network at once.
const BATCH: usize = 64;

/// What a judge says about one picture.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Opinion {
    /// Probability of the flat style; 0 or 1 from judges that only decide.
    pub flat: f64,
    /// The name it recognises.
    pub name: String,
}

/// Tells style and content of pictures.
pub trait Judge {
    /// Short name for files and JSON keys.
    fn key(&self) -> &'static str;
    /// How it works, in a sentence.
    fn about(&self) -> String;
    /// SHA-256 of all that its opinions depend on.
    fn hash(&self) -> String;
    /// SHA-256 of its weights file, in hex: how data tells which judge labelled it. `None`: it has no weights of its own.
    fn weights_sha256(&self) -> Option<&str> {
        None
    }
    /// The names it can recognise.
    fn names(&self) -> &[String];
    /// How often it is right where the answer is known, by kind of picture, in [0, 1].
    fn accuracy(&self) -> Result<BTreeMap<String, f64>>;
    /// One opinion a picture, in their order.
    fn judge(&self, pictures: &[RgbImage]) -> Result<Vec<Opinion>>;
}

/// Pictures as `[B, 3, side, side]` float32 in [-1, 1] on the CPU; other sizes are resized (bilinear, antialiased).
fn pixels(pictures: &[RgbImage], side: u32) -> Result<Tensor> {
    let one = |picture: &RgbImage| {
        let fits = picture.dimensions() == (side, side);
        let resized = (!fits).then(|| resize(picture, side, side, FilterType::Triangle));
        let bytes = resized.as_ref().unwrap_or(picture).as_raw();
        Tensor::from_slice(bytes).view([i64::from(side), i64::from(side), 3]).permute([2, 0, 1]) // [3, side, side]
    };
    let batch: Vec<Tensor> = pictures.iter().map(one).collect();
    let batch = Tensor::f_stack(&batch, 0).context("cannot lay pictures into a batch")?;
    Ok(batch.to_kind(Kind::Float) / 127.5 - 1.0)
}

/// A `[B]` tensor as numbers.
fn numbers<T>(tensor: &Tensor) -> Result<Vec<T>>
where
    Vec<T>: for<'a> TryFrom<&'a Tensor, Error = tch::TchError>,
{
    Ok(Vec::<T>::try_from(&tensor.contiguous())?)
}
