//! `diffpref eval --pairs` as a library call.

use super::figures::{against_first, ches_of, ideally_right, is_turnable, ranks_right, u_ref};
use super::measure::{Measured, OfModel, Task};
use super::request::{PairsRequest, Read};
use crate::data::items::{ImageRef, Item};
use crate::keys::ConfigError;
use crate::machine::files::write_atomically;
use crate::metrics::evaluation::Interval;
use crate::metrics::implicit::{ModelRow, PairEvaluation, PairFigures, PairRow, WorstPair};
use crate::metrics::intervals::clustered_bootstrap;
use crate::numbers::mean;
use crate::progress::{Progress, Stop};
use anyhow::{Context, Result, bail};
use std::collections::{BTreeMap, HashMap};
use std::path::PathBuf;

/// Pairs with the greatest CHES that are shown.
const WORST: usize = 20;

/// The pairs that every model could read.
struct Kept<'a> {
    items: Vec<&'a Item>,
    /// The prompt of every pair, counted in order of first appearance.
    prompts: Vec<usize>,
    /// `[models][pairs]`
    measured: Vec<Vec<Measured>>,
}

/// Measures the models on the pairs and writes `pairs.json` and `pairs.jsonl` into the folder.
///
/// # Errors
/// [`ConfigError`] for wrong options and for models that cannot be compared (exit code 2);
/// [`crate::progress::Stopped`] after a signal.
pub fn judge(request: &PairsRequest, progress: &dyn Progress, stop: &Stop) -> Result<PairEvaluation> {
    request.check()?;
    let Read { items, source, ties } = request.read(progress)?;
    let task = Task { items: &items, request, progress, stop };
    let mut models: Vec<OfModel> = Vec::new();
    for model in &request.models {
        let first = models.first().map(|first| &first.space);
        let of_model = task.measure(model, first.map(|space| space.resolution))?;
        refuse_other_space(request, &models, &of_model, &model.name)?;
        models.push(of_model);
    }
    let unreadable = say_unreadable(&models, progress);
    let kept = kept(&items, &models);
    if kept.items.is_empty() {
        bail!("{}: no pair has two pictures that can be read", source.display());
    }
    let resolution = models.first().map_or(0, |first| first.space.resolution);
    let evaluation = evaluation(request, &kept, source, ties, unreadable, resolution)?;
    let rows: Vec<u8> = rows(request, &kept).try_fold(Vec::new(), |mut text, row| {
        serde_json::to_writer(&mut text, &row)?;
        text.push(b'\n');
        anyhow::Ok(text)
    })?;
    std::fs::create_dir_all(&request.out).with_context(|| format!("cannot make {}", request.out.display()))?;
    write_atomically(&request.out.join(PairEvaluation::ROWS), &rows)?;
    let mut json = serde_json::to_vec_pretty(&evaluation)?;
    json.push(b'\n');
    write_atomically(&request.out.join(PairEvaluation::FILE), &json)?;
    Ok(evaluation)
}

/// Errors of two models are compared in the same latents at the same noise.
fn refuse_other_space(
    request: &PairsRequest,
    others: &[OfModel],
    of_model: &OfModel,
    name: &str,
) -> Result<(), ConfigError> {
    let Some(first) = others.first() else { return Ok(()) };
    let Some(what) = first.space.difference(&of_model.space) else { return Ok(()) };
    let first_name = request.models.first().map_or("", |model| model.name.as_str());
    Err(ConfigError(format!(
        "--pairs: the models {first_name:?} and {name:?} differ in their {what}: their errors cannot be compared; evaluate each alone"
    )))
}

/// Names unreadable pictures once.
fn say_unreadable(models: &[OfModel], progress: &dyn Progress) -> BTreeMap<ImageRef, String> {
    let all: BTreeMap<ImageRef, String> = models.iter().flat_map(|model| model.unreadable.clone()).collect();
    for (image, reason) in &all {
        progress.line(&format!("{image}: {reason}; its pairs do not count"));
    }
    all
}

fn kept<'a>(items: &'a [Item], models: &[OfModel]) -> Kept<'a> {
    let mut numbers: HashMap<&str, usize> = HashMap::new();
    let mut kept = Kept { items: Vec::new(), prompts: Vec::new(), measured: vec![Vec::new(); models.len()] };
    for (index, item) in items.iter().enumerate() {
        let measured: Option<Vec<Measured>> = models.iter().map(|model| model.pairs.get(index).copied()?).collect();
        let Some(measured) = measured else { continue };
        let next = numbers.len();
        kept.prompts.push(*numbers.entry(&item.prompt).or_insert(next));
        kept.items.push(item);
        kept.measured.iter_mut().zip(measured).for_each(|(of_model, one)| of_model.push(one));
    }
    kept
}

fn evaluation(
    request: &PairsRequest,
    kept: &Kept,
    source: PathBuf,
    ties: usize,
    unreadable: BTreeMap<ImageRef, String>,
    resolution: i64,
) -> Result<PairEvaluation> {
    let first = kept.measured.first().context("there is no model")?;
    let u: Vec<f64> = first.iter().map(|one| u_ref(request.beta, one.errors)).collect();
    let ideal: Vec<f64> = u.iter().map(|u| ideally_right(*u, request.vote_share)).collect();
    let ideal = share(&ideal, kept)?;
    let models = request.models.iter().zip(&kept.measured).enumerate().map(|(index, (model, measured))| {
        let right: Vec<f64> = measured.iter().map(|one| ranks_right(one.errors)).collect();
        let ranking_accuracy = share(&right, kept)?;
        let ches = |of: fn(&Measured) -> f64| ches_of(&measured.iter().map(of).collect::<Vec<_>>(), &kept.prompts);
        Ok(PairFigures {
            name: model.name.clone(),
            source: model.source(),
            ranking_accuracy,
            ranking_gap: ideal.mean - ranking_accuracy.mean,
            against_first: (index > 0).then(|| against_first(first, measured, &kept.prompts)).transpose()?,
            ches_output: ches(|one| one.ches_output)?,
            ches_last_layer: ches(|one| one.ches_last_layer)?,
            worst: worst(kept, measured),
        })
    });
    Ok(PairEvaluation {
        source,
        pairs: kept.items.len(),
        prompts: kept.prompts.iter().max().map_or(0, |last| last + 1),
        unreadable: unreadable.into_keys().map(|image| image.to_string()).collect(),
        ties,
        draws: request.draws,
        beta: request.beta,
        vote_share: request.vote_share,
        resolution,
        ideal,
        turnable: mean(u.iter().map(|u| f64::from(is_turnable(*u)))).unwrap_or_default(),
        models: models.collect::<Result<_>>()?,
    })
}

fn share(values: &[f64], kept: &Kept) -> Result<Interval> {
    clustered_bootstrap(values, &kept.prompts).context("there is no pair")
}

/// The pairs with the greatest CHES of the last layer; equal ones in the order of the file.
fn worst(kept: &Kept, measured: &[Measured]) -> Vec<WorstPair> {
    let mut order: Vec<usize> = (0..measured.len()).collect();
    order.sort_by(|a, b| measured[*b].ches_last_layer.total_cmp(&measured[*a].ches_last_layer));
    let one = |index: usize| {
        let item = kept.items[index];
        let picture = |place: usize| item.images.get(place).cloned().unwrap_or_else(|| "".into());
        WorstPair {
            id: item.id.clone(),
            prompt: item.prompt.clone(),
            winner: picture(0),
            loser: picture(1),
            ches: measured[index].ches_last_layer,
        }
    };
    order.into_iter().take(WORST).map(one).collect()
}

fn rows<'a>(request: &'a PairsRequest, kept: &'a Kept) -> impl Iterator<Item = PairRow> + 'a {
    kept.items.iter().enumerate().map(move |(index, item)| {
        let of_model = |(name, measured): (&str, &Vec<Measured>)| ModelRow {
            model: name.into(),
            errors: measured[index].errors,
            ches_output: measured[index].ches_output,
            ches_last_layer: measured[index].ches_last_layer,
        };
        let names = request.models.iter().map(|model| model.name.as_str());
        PairRow {
            id: item.id.clone(),
            prompt: item.prompt.clone(),
            u_ref: kept.measured.first().map_or(0.0, |first| u_ref(request.beta, first[index].errors)),
            models: names.zip(&kept.measured).map(of_model).collect(),
        }
    })
}
