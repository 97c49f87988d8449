//! Numbers of candidates calibrated by Elo ratings of their generators.

use super::calibrate::{expected, mismatch, offsets, temperature};
use super::candidates::Candidates;
use super::measures::Chosen;
use super::summary::Calibrated;
use anyhow::{Context, Result, bail};
use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

/// A generator with its rating.
struct Rated {
    model: String,
    elo: f64,
}

/// Adds one offset per generator to the numbers of every measure. `file`: JSON `{"MODEL": RATING, ..}`.
///
/// # Errors
/// An unreadable file, rows without `model`, a generator without a rating, fewer than two generators.
pub fn calibrated(prompts: &mut [Candidates], measures: &[Chosen], file: &Path) -> Result<Vec<Calibrated>> {
    let rated = ratings(prompts, file)?;
    let elo: Vec<f64> = rated.iter().map(|rated| rated.elo).collect();
    let mut out = Vec::new();
    for (k, measure) in measures.iter().enumerate() {
        let lists: Vec<Vec<f64>> = rated
            .iter()
            .map(|rated| prompts.iter().flat_map(|prompt| numbers(prompt, k, &rated.model)).collect())
            .collect();
        let offsets = offsets(&lists, &elo, temperature(&lists.concat()));
        for (own, offset) in rated.iter().zip(&offsets) {
            let others = rated.iter().filter(|other| other.model != own.model);
            let degree = |other: &Rated| {
                let wins = wins(prompts, k, &own.model, &other.model)?;
                Some((other.model.clone(), mismatch(wins, expected(own.elo, other.elo))))
            };
            let (model, mismatch) = (own.model.clone(), others.filter_map(degree).collect());
            out.push(Calibrated { measure: measure.name(), model, elo: own.elo, offset: *offset, mismatch });
        }
        let of: BTreeMap<&str, f64> = rated.iter().map(|rated| rated.model.as_str()).zip(offsets).collect();
        for prompt in prompts.iter_mut() {
            for (number, model) in prompt.numbers[k].iter_mut().zip(&prompt.models) {
                *number += model.as_deref().and_then(|model| of.get(model)).copied().unwrap_or_default();
            }
        }
    }
    Ok(out)
}

/// Every generator of the candidates with its rating.
fn ratings(prompts: &[Candidates], file: &Path) -> Result<Vec<Rated>> {
    let bytes = std::fs::read(file).with_context(|| format!("cannot read {}", file.display()))?;
    let elo: BTreeMap<String, f64> = serde_json::from_slice(&bytes)
        .with_context(|| format!("{}: expected {{\"MODEL\": RATING, ..}}", file.display()))?;
    let models: BTreeSet<Option<&str>> = prompts.iter().flat_map(|p| p.models.iter().map(Option::as_deref)).collect();
    let mut rated = Vec::new();
    for model in models {
        let Some(model) = model else {
            bail!("--elo: there are rows without `model`; calibration needs the generator of every picture");
        };
        let Some(elo) = elo.get(model) else {
            bail!("{}: no rating of {model:?}, which rows name; add it", file.display());
        };
        rated.push(Rated { model: model.to_string(), elo: *elo });
    }
    if rated.len() < 2 {
        bail!("--elo: all pictures are of one generator; calibration compares generators, so leave --elo out");
    }
    Ok(rated)
}

/// Numbers of one generator's pictures.
fn numbers(prompt: &Candidates, measure: usize, model: &str) -> Vec<f64> {
    let own = prompt.models.iter().zip(&prompt.numbers[measure]).filter(|(m, _)| m.as_deref() == Some(model));
    own.map(|(_, number)| *number).collect()
}

/// Share of comparisons within prompts in which a generator's picture is above the other's; equal numbers count half.
fn wins(prompts: &[Candidates], measure: usize, model: &str, other: &str) -> Option<f64> {
    let (mut won, mut n) = (0.0, 0);
    for prompt in prompts {
        let others = numbers(prompt, measure, other);
        for a in numbers(prompt, measure, model) {
            for b in &others {
                n += 1;
                won += if a > *b { 1.0 } else { 0.5 * f64::from(a == *b) };
            }
        }
    }
    (n > 0).then(|| won / f64::from(n))
}
