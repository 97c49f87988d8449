//! Resolved settings with the model and the data.

use super::prompts;
use super::samples;
use crate::data::items::{Holdout, ItemKind, ItemSet, Labels, ReadOptions, WrongKind};
use crate::machine::disk::default_cache_dir;
use crate::networks::Machine;
use crate::objectives;
use crate::progress::Progress;
use crate::rollout::Setup;
use crate::settings::{self, Config, ConfigError, Document, Facts, Source};
use anyhow::{Context, Result};
use pipelines::families::ModelFolder;
use pipelines::hub::Location;
use pipelines::schedulers::PredictionType;
use std::path::PathBuf;
use toml::{Table, Value};

/// Default number of validation prompts in the sample grid.
const SAMPLE_PROMPTS: usize = 4;

/// Resolved settings with the model folder and the data; no weights are loaded.
pub struct Opened {
    pub table: Table,
    pub config: Config,
    pub folder: ModelFolder,
    /// None for a method that samples its pictures.
    pub items: ItemSet,
    /// Prompts of [rollout], each once; a prompt's place is its index in draws.
    pub prompts: Vec<String>,
    /// Prompts of [validate], sampled and not trained on.
    pub held_out: Vec<String>,
}

impl Opened {
    /// Inputs of the rollouts.
    pub fn setup(&self, machine: Machine) -> Setup<'_> {
        let Self { config, folder, prompts, held_out, .. } = self;
        Setup { config, folder, prompts, held_out, machine }
    }
}

/// Opens model and data and resolves every "auto".
pub fn open(document: &Document, progress: &dyn Progress) -> Result<Opened> {
    let text = |section: &str, key: &str| document.table.get(section).and_then(|t| t.get(key)).and_then(Value::as_str);
    let path = |section: &str, key: &str| text(section, key).map(PathBuf::from);
    let location = Location {
        path: path("model", "path").unwrap_or_default(),
        revision: text("model", "revision").map(String::from),
        variant: text("model", "variant").map(String::from),
    };
    let mut folder = ModelFolder::find(&location, &mut |line| progress.line(line))?;
    override_noise_process(document, &mut folder)?;
    let fraction =
        document.table.get("validate").and_then(|t| t.get("fraction")).and_then(Value::as_float).unwrap_or(0.0);
    let method = document.method()?;
    let needs = &method.needs;
    let source = Source::of(needs);
    let read = match source {
        Source::Items => ItemSet::read,
        Source::TruncatedItems => ItemSet::read_images,
        Source::Rollouts | Source::TruncatedNoise => |_: &ReadOptions| Ok(ItemSet::none()),
    };
    let items = read(&ReadOptions {
        path: path("data", "path").unwrap_or_default(),
        wanted: needs.items,
        ties: text("data", "ties").and_then(|ties| ties.parse().ok()).unwrap_or_default(),
        labels: text("data", "labels").and_then(Labels::parse).unwrap_or_default(),
        swapped: needs.swapped,
        scorer: needs.scorer().map(String::from),
        holdout: path("validate", "path").map_or(Holdout::Fraction(fraction), Holdout::File),
    })
    .map_err(|e| say_who_takes_it(e, document, method.name()))?;
    if source.has_items() {
        refuse_other_rows(document, &items)?;
    }
    let prompts = prompts::of_table(document, "rollout", progress)?;
    let held_out = prompts::of_table(document, "validate", progress)?;
    prompts::say_overlap(&prompts, &held_out, progress);
    let mut facts = facts(&folder, &items, &prompts, needs.scorer());
    if let Some(given) = prompts::of_file(document, "sample")? {
        facts.sample_prompts = given;
    }
    let (table, config) = settings::resolve(document, &facts)?;
    Machine::of(&config)?;
    if let Some(weighting) = config.weights.of_data() {
        weighting.factors(&items.train).with_context(|| items.index.display().to_string())?;
    }
    if samples_wanted(&config) {
        samples::sampling(&config.sample, folder.scheduler())
            .map_err(|e| ConfigError(format!("{}: {e}", document.file)))?;
    }
    Ok(Opened { table, config, folder, items, prompts, held_out })
}

/// An error for data of another kind than the method trains on, with the methods for it.
fn say_who_takes_it(error: anyhow::Error, document: &Document, method: &str) -> anyhow::Error {
    let Some(WrongKind { file, holds, wanted }) = error.downcast_ref::<WrongKind>() else { return error };
    let takes = |e: &&objectives::Entry| {
        let needs = e.needs();
        Source::of(&needs).takes(&needs, *holds)
    };
    let takers: Vec<&str> = objectives::REGISTRY.iter().filter(takes).map(|e| e.name).collect();
    let error = ConfigError(format!(
        "{}: method.name = \"{method}\" trains on {}, and {} holds {}. Give data with {}, or take a method for {}: {}.",
        document.file,
        wanted.noun(),
        file.display(),
        holds.noun(),
        wanted.fields(),
        holds.noun(),
        takers.join(", ")
    ));
    error.into()
}

/// Checks the configuration's statements about the rows.
fn refuse_other_rows(document: &Document, items: &ItemSet) -> Result<(), ConfigError> {
    let text = |key: &str| document.table.get("data").and_then(|t| t.get(key)).and_then(Value::as_str);
    let (file, index, holds) = (&document.file, items.index.display(), items.kind);
    match (text("format"), text("labels")) {
        (Some(format), _) if format != "auto" && format != holds.name() => Err(ConfigError(format!(
            "{file}: data.format = \"{format}\", and the rows of {index} are {}. Correct data.format, or remove it.",
            holds.noun()
        ))),
        (_, Some(labels)) if labels != "given" && holds != ItemKind::Pairs => Err(ConfigError(format!(
            "{file}: data.labels = \"{labels}\" ranks pairs, and the rows of {index} are {}. Remove data.labels.",
            holds.noun()
        ))),
        _ => Ok(()),
    }
}

/// Applies `model.prediction_type` and `model.zero_terminal_snr` if configured.
fn override_noise_process(document: &Document, folder: &mut ModelFolder) -> Result<(), ConfigError> {
    let given = |key: &str| document.table.get("model").and_then(|model| model.get(key));
    let prediction_type = given("prediction_type").and_then(Value::as_str).and_then(PredictionType::named);
    let zero_terminal_snr = given("zero_terminal_snr").and_then(Value::as_bool);
    folder
        .override_noise_process(prediction_type, zero_terminal_snr)
        .map_err(|e| ConfigError(format!("{}: model.prediction_type and model.zero_terminal_snr: {e}", document.file)))
}

fn facts(folder: &ModelFolder, items: &ItemSet, prompts: &[String], scorer: Option<&str>) -> Facts {
    let factor = folder.vae().factor();
    let mut sample_prompts: Vec<String> = Vec::new();
    for prompt in items.validation.iter().chain(&items.train).map(|item| &item.prompt).chain(prompts) {
        if sample_prompts.len() < SAMPLE_PROMPTS && !sample_prompts.contains(prompt) {
            sample_prompts.push(prompt.clone());
        }
    }
    Facts {
        native_resolution: folder.native_resolution(),
        vae_factor: factor,
        prediction_type: folder.scheduler().prediction_type,
        family: folder.family(),
        zero_terminal_snr: folder.scheduler().rescale_betas_zero_snr,
        most_clip_skip: folder.most_clip_skip() as i64,
        guidance_scale: folder.family().guidance_scale(),
        items: items.train.len() as u64,
        kind: items.kind,
        score_range: scorer.and_then(|scorer| items.score_range(scorer)),
        timesteps: folder.scheduler().num_train_timesteps,
        sample_prompts,
        prompts: prompts.len(),
        cuda: tch::Cuda::is_available(),
        cores: std::thread::available_parallelism().map_or(1, |n| n.get()),
        cache_dir: default_cache_dir().display().to_string(),
        home: std::env::var("HOME").ok().filter(|home| !home.is_empty()),
    }
}

/// Whether grids are painted.
pub fn samples_wanted(config: &Config) -> bool {
    let sample = &config.sample;
    sample.every > 0 && !sample.prompts.is_empty() && !sample.seeds.is_empty()
}
