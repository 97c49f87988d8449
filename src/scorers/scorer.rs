//! The interface of scorers, and what the registry declares of each.

use super::measure::{Measure, Table};
use anyhow::Result;
use image::RgbImage;
use pipelines::families::ModelFolder;
use pipelines::weights::LoadOptions;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// Rates pictures of prompts.
pub trait Scorer {
    /// The columns of [`score`](Self::score). Training weighs the first.
    fn measures(&self) -> &[Measure];

    /// Whether pictures of this prompt can be rated. Called before anything is sampled.
    ///
    /// # Errors
    /// A prompt that the scorer does not know.
    fn check(&self, _prompt: &str) -> Result<()> {
        Ok(())
    }

    /// One row per picture, in their order. `t`: timestep of the noisy latents from which the picture was predicted, 0 for a
    /// finished one; scorers that do not know noise ignore it. A picture's numbers must not depend on the pictures rated
    /// with it: to the last bit where a run is trained on them, since a resumed run may batch them otherwise.
    ///
    /// # Errors
    /// A prompt that the scorer does not know, a picture that it cannot read.
    fn score(&self, pictures: &[RgbImage], t: i64, prompts: &[&str]) -> Result<Table>;

    /// Share of right answers on pictures whose answer is known, by kind of picture, in [0, 1].
    fn accuracy(&self) -> Result<BTreeMap<String, f64>> {
        Ok(BTreeMap::new())
    }
}

/// What the registry knows about a scorer before it is opened.
pub struct Declaration {
    pub name: &'static str,
    /// One sentence for people.
    pub about: &'static str,
    pub measures: &'static [Measure],
    /// `None`: the scorer reads no files, and its entry has no path.
    pub files: Option<Files>,
    /// Whether it reads the VAE of the model whose pictures it rates.
    pub reads_vae: bool,
    /// Licence of its weights.
    pub licence: &'static str,
    /// Publication or origin.
    pub citation: &'static str,
    pub open: fn(&Opening) -> Result<Box<dyn Scorer>>,
}

/// The files below a scorer's path that its numbers depend on.
pub struct Files {
    /// What the path is, for people.
    pub form: &'static str,
    /// Name of the weights file: data and runs are recognised by its hash. `None`: no weights.
    pub weights: Option<&'static str>,
    /// All other files.
    ///
    /// # Errors
    /// A list of files that cannot be read.
    pub others: fn(&Path) -> Result<Vec<PathBuf>>,
}

/// What a scorer is opened with.
pub struct Opening<'a> {
    /// Empty where the scorer reads no files.
    pub path: &'a Path,
    /// Device and data type of large networks. Small ones compute on the CPU in float32.
    pub options: LoadOptions,
    /// The model whose pictures are rated; `None`: there is none.
    pub model: Option<&'a ModelFolder>,
}
