//! Prompts that a next round generates anew (OPTune, arXiv 2406.07657).

use super::candidates::Candidates;
use super::combine::{Combination, Table};
use crate::machine::files::write_atomically;
use anyhow::Result;
use serde_json::json;
use std::path::Path;

/// The file, a list of prompts for `diffpref generate`.
pub const FILE: &str = "refresh.jsonl";

/// A prompt and the number of its best picture.
#[derive(Debug, Clone, PartialEq)]
pub struct Best {
    pub prompt: String,
    pub best: f64,
}

/// The best picture of every prompt: the weighted mean of z-scores over all candidates, which numbers of other
/// combinations cannot replace, since they are relative to their prompt.
pub fn best(prompts: &[Candidates], standardised: &[Vec<Vec<f64>>], weights: &[f64]) -> Vec<Best> {
    let of = |(of, standardised): (&Candidates, &Vec<Vec<f64>>)| {
        let table = Table { numbers: &of.numbers, standardised, weights, n: of.pictures.len() };
        let scores = Combination::Mean.combined(&table)?.scores;
        let best = scores.into_iter().reduce(f64::max)?;
        Some(Best { prompt: of.prompt.clone(), best })
    };
    prompts.iter().zip(standardised).filter_map(of).collect()
}

/// The share of the prompts whose best picture is worst, rounded up, in the order of the input.
pub fn chosen(all: &[Best], share: f64) -> Vec<&Best> {
    let n = (share * all.len() as f64).ceil() as usize;
    let mut order: Vec<usize> = (0..all.len()).collect();
    order.sort_by(|a, b| all[*a].best.total_cmp(&all[*b].best));
    order.truncate(n);
    order.sort_unstable();
    order.into_iter().map(|index| &all[index]).collect()
}

/// Writes refresh.jsonl.
///
/// # Errors
/// A folder that cannot be written.
pub fn write(out: &Path, chosen: &[&Best]) -> Result<()> {
    let rows = chosen.iter().map(|one| json!({"prompt": one.prompt, "best": one.best}).to_string() + "\n");
    write_atomically(&out.join(FILE), rows.collect::<String>().as_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_prompts_with_the_worst_best_pictures_are_chosen() {
        let all: Vec<Best> = [("a", 0.3), ("b", -0.2), ("c", 0.9), ("d", -0.2), ("e", 0.1)]
            .map(|(prompt, best)| Best { prompt: prompt.into(), best })
            .into();
        let names = |share: f64| chosen(&all, share).iter().map(|one| one.prompt.as_str()).collect::<String>();
        assert_eq!([names(0.2), names(0.5), names(0.6), names(1.0)], ["b", "bde", "bde", "abcde"].map(String::from));
    }
}
