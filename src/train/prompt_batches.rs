//! Batches of prompts alone, for a method that starts from noise, without pictures.

use crate::data::batches::{Batch, BatchItem};
use crate::data::draws::Draws;
use crate::data::text_cache::TextCache;
use anyhow::Result;
use pipelines::Levels;
use std::ops::Range;
use tch::Tensor;

/// The prompts of a run, in passes, each with its own order.
pub struct PromptBatches {
    pub prompts: Vec<String>,
    pub draws: Draws,
    /// C, h, w
    pub shape: [i64; 3],
    /// Pixels along a side, for families with size inputs.
    pub told_size: Option<i64>,
}

impl PromptBatches {
    /// The prompts at positions of the run: position p is prompt order(pass)[p mod n] of pass p div n, and its noise is
    /// x_T of trajectory 0 of that prompt in the iteration of that number. `latents` are zeros: there is no picture.
    pub fn batch(&self, positions: Range<u64>, texts: &TextCache) -> Result<Batch> {
        let (n, last) = (self.prompts.len() as u64, self.draws.range.last());
        let (mut items, mut noise, mut prompts) = (Vec::new(), Vec::new(), Vec::new());
        for position in positions {
            let pass = position / n;
            let order = self.draws.choose(pass, "prompts", &[]).randperm(n as i64)?;
            let index = order[(position % n) as usize] as usize;
            noise.push(self.draws.rollout(pass, 0, index, 0, &self.shape).get(0));
            prompts.push(self.prompts[index].as_str());
            items.push(BatchItem {
                id: index.to_string(),
                prompt: self.prompts[index].clone(),
                level: last,
                draw: pass,
                rows: vec![items.len() as i64],
                ..BatchItem::default()
            });
        }
        let rows = items.len() as i64;
        let noise = Tensor::f_stack(&noise, 0)?;
        let conditioning = texts.conditioning(&prompts)?;
        let conditioning = match self.told_size {
            Some(r) => conditioning.with_sizes(&vec![[r, r, 0, 0, r, r]; rows as usize]),
            None => conditioning,
        };
        Ok(Batch {
            items,
            latents: noise.zeros_like(),
            levels: Levels::same(last, rows, noise.device()),
            noise,
            conditioning,
        })
    }
}
