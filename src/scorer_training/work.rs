//! Data of a training with the features that its towers compute: judged pictures, or pictures with captions.

use super::captions::Captions;
use super::corpus::Corpus;
use super::towers::{Features, Towers};
use crate::metrics::wins;
use anyhow::Result;
use std::collections::BTreeMap;
use tch::Kind;

/// Pictures per caption set of the retrieval figure.
const RETRIEVED: usize = 256;
/// Pictures per pass.
const PASS: usize = 32;
/// Seed of composed pictures in figures: equal in every run.
const FIGURES_SEED: u64 = 0;

/// The data.
pub enum Work {
    Captions(Captioned),
    Judged { corpus: Box<Corpus>, features: Features },
}

impl Work {
    /// Training items of each data set; captions are one.
    pub fn sets(&self) -> Vec<Vec<usize>> {
        match self {
            Self::Captions(captioned) => vec![(0..captioned.captions.len()).collect()],
            Self::Judged { corpus, .. } => {
                let mut sets = vec![Vec::new(); corpus.sha256.len()];
                corpus.train.iter().enumerate().for_each(|(index, item)| sets[item.set].push(index));
                sets
            }
        }
    }
}

/// Pictures with numbered captions.
pub struct Captioned {
    pub captions: Captions,
    /// Number of each picture's caption: equal captions have one.
    pub numbers: Vec<i64>,
    distinct: Vec<String>,
}

impl Captioned {
    pub fn new(captions: Captions) -> Self {
        let mut known: BTreeMap<String, i64> = BTreeMap::new();
        let mut distinct = Vec::new();
        let mut numbers = Vec::with_capacity(captions.len());
        for i in 0..captions.len() {
            let caption = captions.caption(i);
            let number = *known.entry(caption.to_string()).or_insert_with(|| {
                distinct.push(caption.to_string());
                distinct.len() as i64 - 1
            });
            numbers.push(number);
        }
        Self { captions, numbers, distinct }
    }

    /// Share of pictures whose own caption is the nearest of all, over pictures spread evenly over the data. Drawings are
    /// composed in a way that no training step sees.
    ///
    /// # Errors
    /// An unreadable picture.
    pub fn retrieval(&self, towers: &Towers) -> Result<f64> {
        let _frozen = tch::no_grad_guard();
        let texts: Vec<&str> = self.distinct.iter().map(String::as_str).collect();
        let texts = towers.texts(&texts)?;
        let count = RETRIEVED.min(self.captions.len());
        let chosen: Vec<usize> = (0..count).map(|i| i * self.captions.len() / count).collect();
        let mut right = 0.0;
        for items in chosen.chunks(PASS) {
            let picture = |item: &usize| self.captions.picture(*item, FIGURES_SEED, u64::MAX - *item as u64);
            let images = towers.pictures(&items.iter().map(picture).collect::<Result<Vec<_>>>()?)?;
            let nearest =
                Vec::<i64>::try_from(images.f_matmul(&texts.transpose(0, 1))?.argmax(1, false).to_kind(Kind::Int64))?;
            right += items.iter().zip(nearest).filter(|(item, found)| self.numbers[**item] == *found).count() as f64;
        }
        Ok(right / count as f64)
    }
}

/// Share of a pair that a probability gets right: 1, 0.5 for a tie of either, 0.
pub fn right(probability: f64, share: f64) -> f64 {
    if share == 0.5 { 0.5 } else { wins((probability - 0.5) * (share - 0.5)) }
}
