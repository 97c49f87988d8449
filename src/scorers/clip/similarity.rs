//! Scorers that are a cosine of picture and prompt times a factor.

use super::encoder::Encoder;
use super::pictures::Preprocessing;
use crate::scorers::measure::{Measure, Table};
use crate::scorers::scorer::{Opening, Scorer};
use anyhow::Result;
use image::RgbImage;
use tch::Kind;

/// Factor of the cosine.
pub enum Factor {
    Hundred,
    /// exp(logit_scale) of the weights: 100 in published ones.
    OfWeights,
}

pub struct Similarity {
    encoder: Encoder,
    factor: f64,
    measures: &'static [Measure],
}

impl Similarity {
    /// # Errors
    /// Missing files; weights of another architecture.
    pub fn open(
        opening: &Opening,
        preprocessing: Preprocessing,
        factor: Factor,
        measures: &'static [Measure],
    ) -> Result<Self> {
        let encoder = Encoder::open(opening, preprocessing)?;
        let factor = match factor {
            Factor::Hundred => 100.0,
            Factor::OfWeights => encoder.clip.scale(),
        };
        Ok(Self { encoder, factor, measures })
    }
}

impl Scorer for Similarity {
    fn measures(&self) -> &[Measure] {
        self.measures
    }

    fn check(&self, prompt: &str) -> Result<()> {
        self.encoder.check(prompt)
    }

    fn tokens_cut(&self, prompt: &str) -> Result<usize> {
        self.encoder.tokens_cut(prompt)
    }

    fn score(&self, pictures: &[RgbImage], _: i64, prompts: &[&str]) -> Result<Table> {
        if pictures.is_empty() {
            return Ok(Table::default());
        }
        let cosines = (self.encoder.pictures(pictures)? * self.encoder.prompts(prompts)?).f_sum_dim_intlist(
            [-1].as_slice(),
            false,
            Kind::Double,
        )?;
        let cosines = Vec::<f64>::try_from(&cosines)?;
        Ok(Table::of_column(cosines.into_iter().map(|cosine| cosine * self.factor)))
    }
}
