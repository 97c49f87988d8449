//! The part of the page about models on pairs.

use super::pictures::thumbnail;
use crate::metrics::implicit::{Ches, PairEvaluation, PairFigures, WorstPair};
use crate::metrics::per_cent;
use anyhow::Result;
use serde::Serialize;

/// Larger side of a picture, in pixels.
const SIDE: u32 = 160;

/// Template variables.
#[derive(Serialize)]
pub struct Section {
    pairs: usize,
    prompts: usize,
    draws: u64,
    beta: String,
    /// Per cent.
    turnable: String,
    models: Vec<ModelBox>,
}

#[derive(Serialize)]
struct ModelBox {
    name: String,
    figures: Vec<Figure>,
    ches: Vec<ChesBox>,
    worst: Vec<Shown>,
}

#[derive(Serialize)]
struct Figure {
    what: String,
    value: String,
}

#[derive(Serialize)]
struct ChesBox {
    space: &'static str,
    from: String,
    to: String,
    histogram: Vec<f64>,
}

/// A pair with its pictures as `data:` addresses.
#[derive(Serialize)]
struct Shown {
    prompt: String,
    winner: String,
    loser: String,
    ches: String,
}

impl Section {
    /// # Errors
    /// A picture that cannot be read any more.
    pub fn of(evaluation: &PairEvaluation) -> Result<Self> {
        Ok(Self {
            pairs: evaluation.pairs,
            prompts: evaluation.prompts,
            draws: evaluation.draws,
            beta: evaluation.beta.to_string(),
            turnable: per_cent(evaluation.turnable),
            models: evaluation.models.iter().map(|model| model_box(model, evaluation)).collect::<Result<_>>()?,
        })
    }
}

/// A sentence about the second model's implicit accuracy if it differs from one half by more than chance.
pub fn finding(evaluation: &PairEvaluation) -> Option<String> {
    let model = evaluation.models.get(1)?;
    let accuracy = model.against_first.as_ref()?.implicit_accuracy;
    accuracy.excludes(0.5).then(|| {
        format!(
            "On the {} pairs of {} its error fell more on the winner than on the loser in {}.",
            evaluation.pairs,
            evaluation.source.display(),
            accuracy.per_cent()
        )
    })
}

fn model_box(model: &PairFigures, evaluation: &PairEvaluation) -> Result<ModelBox> {
    let figure = |(what, value): (String, String)| Figure { what, value };
    Ok(ModelBox {
        name: model.name.clone(),
        figures: model.in_words(evaluation).into_iter().map(figure).collect(),
        ches: vec![ches_box("prediction", &model.ches_output), ches_box("last layer", &model.ches_last_layer)],
        worst: model.worst.iter().map(shown).collect::<Result<_>>()?,
    })
}

fn ches_box(space: &'static str, ches: &Ches) -> ChesBox {
    let (from, to) = (format!("{:.1e}", ches.from), format!("{:.1e}", ches.to));
    ChesBox { space, from, to, histogram: ches.histogram.clone() }
}

fn shown(pair: &WorstPair) -> Result<Shown> {
    Ok(Shown {
        prompt: pair.prompt.clone(),
        winner: thumbnail(&pair.winner, SIDE)?,
        loser: thumbnail(&pair.loser, SIDE)?,
        ches: format!("{:.2e}", pair.ches),
    })
}
