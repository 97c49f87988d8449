//! What is open while a run goes on: configuration, model, data, and the learner at its step.

use super::checkpoint;
use super::environment;
use super::feed::Feed;
use super::guards::{Beta, SpikeGuard};
use super::optimizer::{AdamW, Ema, learning_rate};
use super::policy::{self, Machine, Reference};
use super::run_dir::{RunDir, Start};
use super::step::{Learner, OnSpike, StepOutcome};
use super::validation::{self, StartErrors};
use crate::config::{self, Config, ConfigError, Document, Facts};
use crate::data::cache::default_cache_dir;
use crate::data::pairs::{Format, Holdout, PairSet, ReadOptions, Ties};
use crate::objectives;
use crate::progress::{Progress, Stop};
use anyhow::Result;
use pipelines::families::ModelFolder;
use pipelines::schedulers::PredictionType;
use std::path::{Path, PathBuf};
use toml::{Table, Value};

/// How many validation prompts the sample grid shows when the configuration names none.
const SAMPLE_PROMPTS: usize = 4;

/// A resolved configuration with the model folder and the data it names; nothing is loaded yet.
pub struct Opened {
    pub table: Table,
    pub config: Config,
    pub folder: ModelFolder,
    pub pairs: PairSet,
}

/// Opens model and data and resolves every "auto".
pub fn open(document: &Document) -> Result<Opened> {
    let text = |section: &str, key: &str| document.table.get(section).and_then(|t| t.get(key)).and_then(Value::as_str);
    let path = |section: &str, key: &str| text(section, key).map(PathBuf::from);
    let mut folder = ModelFolder::open(&path("model", "path").unwrap_or_default())?;
    override_noise_process(document, &mut folder)?;
    let fraction =
        document.table.get("validate").and_then(|t| t.get("fraction")).and_then(Value::as_float).unwrap_or(0.0);
    let pairs = PairSet::read(&ReadOptions {
        path: path("data", "path").unwrap_or_default(),
        format: if text("data", "format") == Some("pairs") { Format::Pairs } else { Format::Auto },
        ties: if text("data", "ties") == Some("error") { Ties::Error } else { Ties::Drop },
        holdout: path("validate", "path").map_or(Holdout::Fraction(fraction), Holdout::File),
    })?;
    let (table, config) = config::resolve(document, &facts(&folder, &pairs))?;
    Ok(Opened { table, config, folder, pairs })
}

/// Applies `model.prediction_type` and `model.zero_terminal_snr` where the configuration gives them.
fn override_noise_process(document: &Document, folder: &mut ModelFolder) -> Result<(), ConfigError> {
    let given = |key: &str| document.table.get("model").and_then(|model| model.get(key));
    let prediction_type = given("prediction_type").and_then(Value::as_str).and_then(PredictionType::named);
    let zero_terminal_snr = given("zero_terminal_snr").and_then(Value::as_bool);
    folder
        .override_noise_process(prediction_type, zero_terminal_snr)
        .map_err(|e| ConfigError(format!("{}: model.prediction_type and model.zero_terminal_snr: {e}", document.file)))
}

fn facts(folder: &ModelFolder, pairs: &PairSet) -> Facts {
    let factor = folder.vae().factor();
    let mut prompts: Vec<String> = Vec::new();
    for pair in pairs.validation.iter().chain(&pairs.train) {
        if prompts.len() < SAMPLE_PROMPTS && !prompts.contains(&pair.prompt) {
            prompts.push(pair.prompt.clone());
        }
    }
    Facts {
        native_resolution: folder.unet().sample_size * factor,
        vae_factor: factor,
        prediction_type: folder.scheduler().prediction_type.name().into(),
        zero_terminal_snr: folder.scheduler().rescale_betas_zero_snr,
        takes_time_ids: folder.takes_time_ids(),
        most_clip_skip: folder.most_clip_skip() as i64,
        guidance_scale: folder.family().guidance_scale(),
        pairs: pairs.train.len() as u64,
        sample_prompts: prompts,
        cuda: tch::Cuda::is_available(),
        cores: std::thread::available_parallelism().map_or(1, |n| n.get()),
        cache_dir: default_cache_dir().display().to_string(),
    }
}

impl Opened {
    /// Whether what a configuration key names has the content that the run in `run` recorded.
    pub fn same_content<'a>(&'a self, run: &Path) -> impl Fn(&str) -> bool + 'a {
        let recorded = environment::recorded(run);
        move |key| {
            let now = environment::contents(self).unwrap_or_default();
            recorded.get(key).is_some_and(|then| now.get(key) == Some(then))
        }
    }
}

/// A run in progress.
pub struct Session {
    pub config: Config,
    pub folder: ModelFolder,
    pub feed: Feed,
    pub learner: Learner,
    /// The last finished step.
    pub step: u64,
    pub start_errors: Option<StartErrors>,
    pub best: Option<(u64, f64)>,
}

impl Session {
    /// Encodes what is missing, loads the networks, and takes over a checkpoint.
    pub fn start(opened: Opened, dir: &RunDir, start: Start, progress: &dyn Progress, stop: &Stop) -> Result<Self> {
        let contents = environment::contents(&opened)?;
        environment::write(&dir.path, &opened, &contents)?;
        let machine = Machine::of(&opened.config)?;
        let Opened { table, config, folder, pairs } = opened;
        let entry = objectives::entry_of(&table);
        let step = match &start {
            Start::Fresh => 0,
            Start::At(_, state) => state.step,
        };
        let feed = Feed::open(&config, &folder, pairs, machine, entry.needs, &dir.path, step, progress, stop)?;
        let mut learner = learner(&config, &folder, machine, entry)?;
        let (mut start_errors, mut best) = (None, None);
        if let Start::At(path, mut state) = start {
            checkpoint::load(&path, &state, &mut learner)?;
            start_errors = state.start_errors.take();
            best = state.best;
        }
        Ok(Self { config, folder, feed, learner, step, start_errors, best })
    }

    /// The next step; on success it counts.
    pub fn take_step(&mut self, stop: &Stop) -> Result<StepOutcome> {
        let s = self.step + 1;
        let lr = learning_rate(&self.config.optim, &self.config.train, s);
        let outcome = self.learner.step(s, lr, &mut self.feed.micro_batches(s), stop)?;
        self.step = s;
        Ok(outcome)
    }

    pub fn samples_wanted(&self) -> bool {
        self.config.sample.every > 0 && !self.config.sample.prompts.is_empty() && !self.config.sample.seeds.is_empty()
    }

    pub fn validates_now(&self) -> bool {
        let every = self.config.validate.every;
        self.start_errors.is_some() && every > 0 && (self.step % every == 0 || self.step == self.config.train.steps)
    }

    /// Measures the start model on the validation pairs, once, before anything is trained.
    pub fn prepare_validation(&mut self, progress: &dyn Progress, stop: &Stop) -> Result<()> {
        if self.config.validate.every == 0 || self.start_errors.is_some() {
            return Ok(());
        }
        if self.feed.validation_len() == 0 {
            progress.line("no pair is held out: validation is off (validate.fraction chose none of the prompts)");
            return Ok(());
        }
        if self.step > 0 && matches!(self.learner.reference, Reference::Absent) {
            progress
                .line("validation stays off: the start model was not measured before step 1 and is no longer at hand");
            return Ok(());
        }
        progress.begin("validate", 0, self.feed.validation_len() as u64);
        let errors = validation::start_errors(&self.learner, &mut self.feed.validation(), stop);
        progress.end();
        self.start_errors = Some(errors?);
        Ok(())
    }

    /// About what a checkpoint takes on disk.
    pub fn checkpoint_bytes(&self) -> u64 {
        let copies = if self.learner.ema.is_some() { 4 } else { 3 };
        let bytes = |t: &tch::Tensor| t.numel() as u64 * t.kind().elt_size_in_bytes() as u64;
        copies * self.learner.policy.trainable.iter().map(|(_, t)| bytes(t)).sum::<u64>()
    }
}

fn learner(config: &Config, folder: &ModelFolder, machine: Machine, entry: &objectives::Entry) -> Result<Learner> {
    let (policy, reference) = policy::load(config, folder, machine, entry.needs.reference)?;
    let text = |key: &str| config.method.get(key).and_then(Value::as_str);
    let default =
        || entry.keys.iter().find(|k| k.name == "beta").and_then(|k| k.default_value()).and_then(|v| v.as_float());
    let beta = match config.method.get("beta") {
        Some(v) if v.as_str() == Some("auto") => Beta::auto(default().unwrap_or(1.0)),
        Some(v) => Beta::fixed(v.as_float().unwrap_or(1.0)),
        None => Beta::fixed(1.0),
    };
    Ok(Learner {
        machine,
        objective: (entry.build)(&config.method),
        native_errors: text("error") == Some("native"),
        optimizer: AdamW::new(&policy.trainable, &config.optim),
        ema: Ema::new(&policy.trainable, config.ema.decay),
        beta,
        guard: SpikeGuard::default(),
        on_spike: match config.train.on_spike.as_str() {
            "skip" => OnSpike::Skip,
            "stop" => OnSpike::Stop,
            _ => OnSpike::Warn,
        },
        policy,
        reference,
    })
}
