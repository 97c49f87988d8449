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

    /// Checks whether pictures of this prompt can be rated, before sampling.
    ///
    /// # Errors
    /// An unsupported prompt.
    fn check(&self, _prompt: &str) -> Result<()> {
        Ok(())
    }

    /// Tokens at the end of a prompt that the scorer cuts off. Most scorers read a whole prompt, or none.
    ///
    /// # Errors
    /// A prompt that cannot be split into tokens.
    fn tokens_cut(&self, _prompt: &str) -> Result<usize> {
        Ok(0)
    }

    /// One row per picture, in order. `t`: timestep of the noisy latents behind a predicted picture, 0 for a finished
    /// one; most scorers ignore it. A picture's numbers must not depend on the pictures rated with it: to the last
    /// bit on the CPU, since a resumed run may batch them differently, and to 1e-6 of them on a graphics card.
    ///
    /// # Errors
    /// An unsupported prompt, an unreadable picture.
    fn score(&self, pictures: &[RgbImage], t: i64, prompts: &[&str]) -> Result<Table>;

    /// Probability that the first of two pictures is better, one per pair, in [0, 1]; 0.5 is a tie.
    ///
    /// # Errors
    /// A scorer that only rates; those of [`score`](Self::score).
    fn compare(&self, _first: &[RgbImage], _second: &[RgbImage], _prompts: &[&str]) -> Result<Vec<f64>> {
        anyhow::bail!("it rates pictures and does not compare them; take a `command` or `http` scorer that compares")
    }

    /// Text that its numbers depend on beside its files, for caches; empty: none.
    fn identity(&self) -> String {
        String::new()
    }

    /// Accuracy on pictures with a known answer, by kind of picture, in [0, 1].
    fn accuracy(&self) -> Result<BTreeMap<String, f64>> {
        Ok(BTreeMap::new())
    }
}

/// Declaration of a scorer, available before it is opened.
pub struct Declaration {
    pub name: &'static str,
    /// Description in one sentence.
    pub about: &'static str,
    pub measures: &'static [Measure],
    /// `None`: the scorer reads no files, and its entry has no path.
    pub files: Option<Files>,
    /// Whether it reads the VAE of the model whose pictures it rates.
    pub reads_vae: bool,
    /// Licence of its weights.
    pub licence: &'static str,
    /// Bundled path for tests, which open every scorer from it; empty for a scorer without files.
    pub example: &'static str,
    /// Publication or origin.
    pub citation: &'static str,
    pub open: fn(&Opening) -> Result<Box<dyn Scorer>>,
}

/// Files below a scorer's path that affect its numbers.
pub struct Files {
    /// Description of the path in messages.
    pub form: &'static str,
    /// Name of the weights file, whose hash identifies the scorer in data and runs. `None`: no weights.
    pub weights: Option<&'static str>,
    /// All other files.
    ///
    /// # Errors
    /// A list of files that cannot be read.
    pub others: fn(&Path) -> Result<Vec<PathBuf>>,
}

/// Options of opening a scorer.
pub struct Opening<'a> {
    /// Empty for a scorer without files.
    pub path: &'a Path,
    /// Device and data type of large networks. Small ones compute on the CPU in float32.
    pub options: LoadOptions,
    /// The model whose pictures are rated; `None`: there is none.
    pub model: Option<&'a ModelFolder>,
}
