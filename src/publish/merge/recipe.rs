//! The sum of an operation, in one form for all operations.

use super::operation::{AsLora, Operation, Weighted, refused};
use anyhow::{Result, anyhow};
use pipelines::families::Layers;
use pipelines::lora::Lora;
use std::path::PathBuf;

/// Tolerance of the weights of a soup around a sum of 1, for decimals such as 0.333.
const SUM_TOLERANCE: f64 = 0.002;

/// One summand: its role in records, its path and its weight.
#[derive(Debug, Clone)]
pub struct Term {
    pub role: &'static str,
    pub path: PathBuf,
    pub weight: f64,
}

/// `frame + sum_i weight_i (term_i - from)`.
#[derive(Debug)]
pub struct Recipe {
    /// None: a sum of LoRAs of a family's usual shape.
    pub frame: Option<Term>,
    /// None: the frame.
    pub from: Option<Term>,
    pub terms: Vec<Term>,
    /// Only the difference is written, as a LoRA.
    pub lora: Option<AsLora>,
}

/// The sum of an operation.
pub fn of(operation: &Operation) -> Result<Recipe> {
    let term = |role, path: &PathBuf, weight| Term { role, path: path.clone(), weight };
    let frame = |path: &PathBuf| Some(term("base", path, 1.0));
    let given = |role: &'static str, list: &[Weighted]| {
        list.iter().map(|one| term(role, &one.path, one.weight.unwrap_or(1.0))).collect::<Vec<_>>()
    };
    Ok(match operation {
        Operation::Soup { models } => soup(models)?,
        Operation::TaskVector { base, onto: None, models } => {
            Recipe { frame: frame(base), from: None, terms: given("model", models), lora: None }
        }
        Operation::TaskVector { base, onto: Some(onto), models } => Recipe {
            frame: Some(term("onto", onto, 1.0)),
            from: frame(base),
            terms: given("model", models),
            lora: None,
        },
        Operation::Npo { base, positive, negative, alpha, beta, lora } => Recipe {
            frame: frame(base),
            from: None,
            terms: vec![term("positive", positive, *alpha), term("negative", negative, *beta)],
            lora: *lora,
        },
        Operation::Lora { base, loras } => {
            Recipe { frame: frame(base), from: None, terms: only_loras(given("lora", loras))?, lora: None }
        }
        Operation::Join { base, loras, rank } => Recipe {
            frame: base.as_ref().and_then(frame),
            from: None,
            terms: only_loras(given("lora", loras))?,
            lora: Some(AsLora { rank: *rank, layers: Layers::All }),
        },
        Operation::Extract { base, model, lora } => {
            Recipe { frame: frame(base), from: None, terms: vec![term("model", model, 1.0)], lora: Some(*lora) }
        }
    })
}

/// The first model is the frame, so that a soup is a sum of differences like all other operations.
fn soup(models: &[Weighted]) -> Result<Recipe> {
    let terms = shares(models)?;
    let loras = terms.iter().filter(|term| Lora::is_at(&term.path)).count();
    if loras == terms.len() {
        let lora = Some(AsLora { rank: None, layers: Layers::All });
        return Ok(Recipe { frame: None, from: None, terms, lora });
    }
    if let Some(lora) = terms.iter().find(|term| Lora::is_at(&term.path)) {
        return Err(refused(format!(
            "--model {}: a LoRA cannot be averaged with whole models; merge it into its base first: diffpref merge lora",
            lora.path.display()
        )));
    }
    let mut terms = terms.into_iter();
    Ok(Recipe { frame: terms.next(), from: None, terms: terms.collect(), lora: None })
}

fn shares(models: &[Weighted]) -> Result<Vec<Term>> {
    let equal = 1.0 / models.len().max(1) as f64;
    let given = models.iter().filter(|model| model.weight.is_some()).count();
    if given != 0 && given != models.len() {
        return Err(refused("some models have a weight and some have none; give all, or none for equal ones"));
    }
    let sum: f64 = models.iter().filter_map(|model| model.weight).sum();
    if given != 0 && (sum - 1.0).abs() > SUM_TOLERANCE {
        return Err(refused(format!(
            "the weights of a soup add up to {sum}, expected 1; divide each by {sum}, or use task-vector for other sums"
        )));
    }
    let share = |weight: Option<f64>| weight.map_or(equal, |weight| weight / sum);
    let terms = models.iter().map(|m| Term { role: "model", path: m.path.clone(), weight: share(m.weight) });
    Ok(terms.collect())
}

fn only_loras(terms: Vec<Term>) -> Result<Vec<Term>> {
    if let Some(term) = terms.iter().find(|term| !Lora::file_in(&term.path).exists()) {
        return Err(anyhow!("--lora {}: there is no such file, or no LoRA in that folder", term.path.display()));
    }
    match terms.iter().find(|term| term.path.exists() && !Lora::is_at(&term.path)) {
        Some(term) => Err(refused(format!(
            "--lora {}: this is no LoRA; the difference of a whole model is merged by task-vector, or made a LoRA by extract",
            term.path.display()
        ))),
        None => Ok(terms),
    }
}
