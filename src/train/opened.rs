//! Resolved settings with the model and the data.

use super::prompts;
use super::samples;
use crate::data::items::{Holdout, ItemKind, ItemSet, Labels, Preference, ReadOptions, WrongKind};
use crate::keys::{Auto, ConfigError};
use crate::machine::disk::default_cache_dir;
use crate::networks::Machine;
use crate::objectives;
use crate::progress::Progress;
use crate::rollout::Setup;
use crate::settings::{Facts, HeldOut, Items, Ledger, Parsed, Settings, Source, Validate};
use anyhow::{Context, Result};
use pipelines::families::ModelFolder;

/// Default number of validation prompts in the sample grid.
const SAMPLE_PROMPTS: usize = 4;

/// Resolved settings with the model folder and the data; no weights are loaded.
pub struct Opened {
    pub config: Settings,
    pub folder: ModelFolder,
    /// None for a method that samples its pictures.
    pub items: ItemSet,
    /// Prompts of [rollout], each once; a prompt's place is its index in draws.
    pub prompts: Vec<String>,
    /// Prompts of [validate], sampled and not trained on.
    pub held_out: Vec<String>,
    /// The ledger is filled for all planned draws before the first step.
    pub ledger_first: bool,
}

impl Opened {
    /// Fills the ledger for all planned draws before the first step (`--ledger-first`), which turns it on.
    ///
    /// # Errors
    /// A method that cannot use it, and `reference.ledger = "off"`.
    pub fn with_ledger_first(mut self) -> Result<Self, ConfigError> {
        if let Some(why) = self.config.no_ledger() {
            let name = self.config.method.name();
            let text =
                format!("--ledger-first does not go with method.name = \"{name}\": {why}. Leave the option out.");
            return Err(ConfigError(text));
        }
        if let Some(reference) = &mut self.config.reference {
            if reference.ledger == Auto::Given(Ledger::Off) {
                let text = "--ledger-first fills a ledger that reference.ledger = \"off\" does not use. Leave the option out, or set the key to \"on\".";
                return Err(ConfigError(text.into()));
            }
            reference.ledger = Auto::Given(Ledger::On);
        }
        self.ledger_first = true;
        Ok(self)
    }

    /// Inputs of the rollouts.
    pub fn setup(&self, machine: Machine) -> Setup<'_> {
        let Self { config, folder, prompts, held_out, .. } = self;
        Setup { config, folder, prompts, held_out, machine }
    }
}

/// Opens model and data and resolves every "auto".
///
/// # Errors
/// Model or data that cannot be opened, and settings that do not go with them.
pub fn open(parsed: &Parsed, progress: &dyn Progress) -> Result<Opened> {
    let mut folder = ModelFolder::find(&parsed.model.location(), &mut |line| progress.line(line))?;
    override_noise_process(parsed, &mut folder)?;
    let items = match &parsed.items {
        Some(keys) => read_items(parsed, keys)?,
        None => ItemSet::none(),
    };
    let held_out = match &parsed.validate {
        Some(Validate { held_out: HeldOut::Prompts { prompts }, .. }) => Some(prompts),
        Some(Validate { held_out: HeldOut::Items(_), .. }) | None => None,
    };
    let starts = parsed.starts.as_ref().map(|starts| &starts.prompts);
    let prompts = prompts::of_table(&parsed.file, "rollout", starts, progress)?;
    let held_out = prompts::of_table(&parsed.file, "validate", held_out, progress)?;
    prompts::say_overlap(&prompts, &held_out, progress);
    let mut facts = facts(&folder, &items, &prompts, parsed.method.needs.scorer());
    if let Some(given) = prompts::of_file(&parsed.file, "sample", parsed.sample.prompts.as_ref())? {
        facts.sample_prompts = given;
    }
    let config = parsed.resolve(&facts)?;
    Machine::of(&config)?;
    if let Some(weighting) = config.weighting() {
        weighting.factors(&items.train).with_context(|| items.index.display().to_string())?;
    }
    if samples_wanted(&config) {
        samples::sampling(&config.sample, folder.scheduler())
            .map_err(|e| ConfigError(format!("{}: {e}", parsed.file)))?;
    }
    Ok(Opened { config, folder, items, prompts, held_out, ledger_first: false })
}

fn read_items(parsed: &Parsed, keys: &Items) -> Result<ItemSet> {
    let needs = &parsed.method.needs;
    let holdout = match &parsed.validate {
        Some(Validate { held_out: HeldOut::Items(held_out), .. }) => match &held_out.path {
            Some(path) => Holdout::File(path.clone()),
            None => Holdout::Fraction(held_out.fraction),
        },
        Some(Validate { held_out: HeldOut::Prompts { .. }, .. }) | None => Holdout::Fraction(0.0),
    };
    let cache_dir = parsed.pictures.cache_dir(&default_cache_dir().display().to_string(), home().as_deref());
    let options = ReadOptions {
        path: keys.path.clone(),
        format: keys.format.given(),
        wanted: needs.items,
        ties: keys.ties,
        labels: keys.labels.clone(),
        swapped: needs.swapped,
        scorer: needs.scorer().map(String::from),
        holdout,
        filters: keys.filters(cache_dir).map_err(|e| ConfigError(format!("{}: {e}", parsed.file)))?,
    };
    let read = match needs.truncated {
        Some(_) => ItemSet::read_images(&options),
        None if needs.one_class => ItemSet::read_any_class(&options),
        None => ItemSet::read(&options),
    };
    let items = read.map_err(|e| say_who_takes_it(e, parsed))?;
    refuse_other_rows(&parsed.file, keys, &items)?;
    refuse_undesirable(parsed, &items)?;
    Ok(items)
}

/// Undesirable images whose loss has no lower bound with the method's keys.
fn refuse_undesirable(parsed: &Parsed, items: &ItemSet) -> Result<(), ConfigError> {
    let Some(condition) = parsed.method.needs.undesirable_requires else { return Ok(()) };
    let undesirable = items.train.iter().filter(|i| i.preference == Preference::Label { desirable: false }).count();
    if undesirable == 0 {
        return Ok(());
    }
    Err(ConfigError(format!(
        "{}: method.name = \"{}\" with {undesirable} undesirable images in {}: expected {condition}, as their loss has no \
         lower bound otherwise. Correct the keys of [method], or give desirable images alone.",
        parsed.file,
        parsed.method.name(),
        items.index.display()
    )))
}

/// An error for data of another kind than the method trains on, with the methods for it.
fn say_who_takes_it(error: anyhow::Error, parsed: &Parsed) -> anyhow::Error {
    let Some(WrongKind { file, holds, wanted }) = error.downcast_ref::<WrongKind>() else { return error };
    let takes = |e: &&objectives::Entry| {
        let needs = e.needs();
        Source::of(&needs).takes(&needs, *holds)
    };
    let takers: Vec<&str> = objectives::REGISTRY.iter().filter(takes).map(|e| e.name).collect();
    let error = ConfigError(format!(
        "{}: method.name = \"{}\" trains on {}, and {} holds {}. Give data with {}, or take a method for {}: {}.",
        parsed.file,
        parsed.method.name(),
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
fn refuse_other_rows(file: &str, keys: &Items, items: &ItemSet) -> Result<(), ConfigError> {
    let (index, holds) = (items.index.display(), items.kind);
    if let Auto::Given(format) = keys.format
        && format != items.format
    {
        return Err(ConfigError(format!(
            "{file}: data.format = \"{format}\", and the rows of {index} are {}. Correct data.format, or remove it.",
            holds.noun()
        )));
    }
    if keys.labels != Labels::Given && holds != ItemKind::Pairs {
        return Err(ConfigError(format!(
            "{file}: data.labels = \"{}\" ranks pairs, and the rows of {index} are {}. Remove data.labels.",
            keys.labels,
            holds.noun()
        )));
    }
    Ok(())
}

/// Applies `model.prediction_type` and `model.zero_terminal_snr` if configured.
fn override_noise_process(parsed: &Parsed, folder: &mut ModelFolder) -> Result<(), ConfigError> {
    folder
        .override_noise_process(parsed.model.prediction_type.given(), parsed.model.zero_terminal_snr.given())
        .map_err(|e| ConfigError(format!("{}: model.prediction_type and model.zero_terminal_snr: {e}", parsed.file)))
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
        items: items.train.len() as u64,
        format: items.format,
        score_range: scorer.and_then(|scorer| items.score_range(scorer)),
        timesteps: folder.scheduler().num_train_timesteps,
        sample_prompts,
        prompts: prompts.len(),
        cuda: tch::Cuda::is_available(),
        cores: std::thread::available_parallelism().map_or(1, |n| n.get()),
        cache_dir: default_cache_dir().display().to_string(),
        home: home(),
    }
}

/// Expansion of `~`.
fn home() -> Option<String> {
    std::env::var("HOME").ok().filter(|home| !home.is_empty())
}

/// Whether grids are painted.
pub fn samples_wanted(config: &Settings) -> bool {
    let sample = &config.sample;
    sample.every > 0 && !sample.prompts.is_empty() && !sample.seeds.is_empty()
}
