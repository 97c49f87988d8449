//! From a checked document and the facts of model, data and machine to the settings of the run.

use super::document::Document;
use super::source::Source;
use super::tables::TABLES;
use super::{Config, ConfigError, Result, rollouts};
use crate::data::items::ItemKind;
use crate::keys::{Default, Key};
use crate::objectives::{Inversion, InversionGrid, MethodSettings};
use pipelines::families::Family;
use pipelines::schedulers::PredictionType;
use std::path::Path;
use toml::{Table, Value};

/// Upper limit of train.steps.
const MOST_STEPS: f64 = 1e9;

/// Facts behind the configuration's "auto" values.
#[derive(Debug, Clone)]
pub struct Facts {
    /// The UNet's sample_size times the VAE's factor, in pixels.
    pub native_resolution: i64,
    /// Pixels per latent.
    pub vae_factor: i64,
    /// Value of the model.
    pub prediction_type: PredictionType,
    pub family: Family,
    /// Value of the model's scheduler.
    pub zero_terminal_snr: bool,
    /// The largest clip_skip for which the text encoders have layers.
    pub most_clip_skip: i64,
    /// Value of the model's family.
    pub guidance_scale: f64,
    /// Kind of the data's rows; without meaning for a method without items.
    pub kind: ItemKind,
    /// Least and greatest score of `method.scorer` over all images of the training pairs.
    pub score_range: Option<[f64; 2]>,
    /// T
    pub timesteps: i64,
    /// Training items left after row checks and split; 0 for a method without items.
    pub items: u64,
    /// Prompts of the sample grid: those of its file, or by default some training prompts.
    pub sample_prompts: Vec<String>,
    /// Number of distinct prompts of [rollout]; 0 for a method without prompts.
    pub prompts: usize,
    pub cuda: bool,
    pub cores: usize,
    pub cache_dir: String,
    /// Folder that replaces `~` in `data.cache_dir`.
    pub home: Option<String>,
}

/// Fills in every "auto" and checks combinations of keys. The result is the content of `resolved.toml`.
pub fn resolve(document: &Document, facts: &Facts) -> Result<(Table, Config)> {
    let mut table = document.table.clone();
    let refuse = |text: String| ConfigError(format!("{}: {text}", document.file));
    resolve_machine(&mut table, facts);
    resolve_model(&mut table, facts).map_err(refuse)?;
    resolve_data(&mut table, facts).map_err(refuse)?;
    resolve_families(&mut table, facts).map_err(refuse)?;
    resolve_timesteps(&mut table, facts).map_err(refuse)?;
    resolve_scores(&mut table, facts).map_err(refuse)?;
    check_inversion(&table, facts).map_err(refuse)?;
    resolve_lora(&mut table);
    rollouts::resolve(&mut table, facts).map_err(refuse)?;
    resolve_steps(&mut table, facts).map_err(refuse)?;
    resolve_sample(&mut table, facts);
    let train = section(&mut table, "train");
    if !train.contains_key("out") {
        let stem = Path::new(&document.file).file_stem().map_or("run".into(), |s| s.to_string_lossy().into_owned());
        train.insert("out".into(), Value::String(format!("runs/{stem}")));
    }
    let table = in_declared_order(table);
    let mut config = typed(&table).map_err(refuse)?;
    config.method = config.method.with_family(facts.family).map_err(|e| refuse(e.to_string()))?;
    Ok((table, config))
}

/// Keys in the order of their declaration, given or filled in: equal runs write equal files.
fn in_declared_order(mut table: Table) -> Table {
    for declared in TABLES {
        let Some(Value::Table(section)) = table.get_mut(declared.name) else { continue };
        let mut ordered = Table::new();
        for key in declared.keys {
            ordered.extend(section.remove(key.name).map(|value| (key.name.to_string(), value)));
        }
        ordered.extend(std::mem::replace(section, Table::new()));
        *section = ordered;
    }
    if let Ok(method) = method(&table) {
        table.insert("method".into(), Value::Table(method.table()));
    }
    table
}

/// Reads a `resolved.toml`.
pub fn reload(path: &Path) -> Result<(Table, Config)> {
    let text =
        std::fs::read_to_string(path).map_err(|e| ConfigError(format!("{}: cannot read it: {e}", path.display())))?;
    let table = text.parse::<Table>().map_err(|e| ConfigError(format!("{}: not TOML: {e}", path.display())))?;
    let config = typed(&table).map_err(|e| ConfigError(format!("{}: {e}", path.display())))?;
    Ok((table, config))
}

fn typed(table: &Table) -> std::result::Result<Config, String> {
    Value::Table(table.clone()).try_into().map_err(|e: toml::de::Error| e.to_string().trim_end().to_string())
}

/// [method] as values.
pub(super) fn method(table: &Table) -> std::result::Result<MethodSettings, String> {
    MethodSettings::from_table(table.get("method").and_then(Value::as_table).cloned().unwrap_or_default())
}

fn section<'a>(table: &'a mut Table, name: &str) -> &'a mut Table {
    let entry = table.entry(name.to_string()).or_insert_with(|| Value::Table(Table::new()));
    if !entry.is_table() {
        *entry = Value::Table(Table::new());
    }
    match entry {
        Value::Table(t) => t,
        _ => unreachable!("made a table just above"),
    }
}

fn is_auto(table: &Table, key: &str) -> bool {
    table.get(key).and_then(Value::as_str) == Some("auto")
}

fn resolve_machine(table: &mut Table, facts: &Facts) {
    let model = section(table, "model");
    if is_auto(model, "device") {
        model.insert("device".into(), Value::String(if facts.cuda { "cuda:0" } else { "cpu" }.into()));
    }
    let on_cpu = model.get("device").and_then(Value::as_str) == Some("cpu");
    if is_auto(model, "dtype") {
        model.insert("dtype".into(), Value::String(if on_cpu { "float32" } else { "bfloat16" }.into()));
    }
    let train = section(table, "train");
    if is_auto(train, "threads") {
        train.insert("threads".into(), Value::Integer(facts.cores as i64));
    }
    let data = section(table, "data");
    if is_auto(data, "workers") {
        data.insert("workers".into(), Value::Integer(facts.cores as i64));
    }
}

fn resolve_model(table: &mut Table, facts: &Facts) -> std::result::Result<(), String> {
    let model = section(table, "model");
    if is_auto(model, "prediction_type") {
        model.insert("prediction_type".into(), Value::String(facts.prediction_type.name().into()));
    }
    if is_auto(model, "zero_terminal_snr") {
        model.insert("zero_terminal_snr".into(), Value::Boolean(facts.zero_terminal_snr));
    }
    let clip_skip = model.get("clip_skip").and_then(Value::as_integer).unwrap_or(0);
    if clip_skip > facts.most_clip_skip {
        return Err(format!(
            "model.clip_skip = {clip_skip}: expected 0 to {} for this model's text encoders.",
            facts.most_clip_skip
        ));
    }
    match (facts.family.tells_sizes(), model.contains_key("time_ids")) {
        (true, false) => drop(model.insert("time_ids".into(), Value::String("true_sizes".into()))),
        (false, true) => {
            return Err("model.time_ids: this model has no size inputs, only SDXL has. Remove the key.".into());
        }
        _ => {}
    }
    Ok(())
}

fn resolve_data(table: &mut Table, facts: &Facts) -> std::result::Result<(), String> {
    let data = section(table, "data");
    if is_auto(data, "format") {
        data.insert("format".into(), Value::String(facts.kind.name().into()));
    }
    if is_auto(data, "resolution") {
        data.insert("resolution".into(), Value::Integer(facts.native_resolution));
    }
    let resolution = data.get("resolution").and_then(Value::as_integer).unwrap_or(facts.native_resolution);
    if resolution % facts.vae_factor != 0 {
        let below = resolution / facts.vae_factor * facts.vae_factor;
        return Err(format!(
            "data.resolution = {resolution}: expected a multiple of {}, the factor of this model's VAE. Take {} or {}.",
            facts.vae_factor,
            below.max(facts.vae_factor),
            below + facts.vae_factor
        ));
    }
    let cache_dir = data.entry("cache_dir").or_insert_with(|| Value::String(facts.cache_dir.clone()));
    if let (Some(below), Some(home)) = (cache_dir.as_str().and_then(|d| d.strip_prefix("~/")), &facts.home) {
        *cache_dir = Value::String(format!("{home}/{below}"));
    }
    Ok(())
}

/// Defaults that differ between families, and keys of some laws and references only.
fn resolve_families(table: &mut Table, facts: &Facts) -> std::result::Result<(), String> {
    let method = method(table)?;
    // `of`: the keys with a default of their own in the family.
    let fill = |table: &mut Table, name: &str, of: &str, keys: &[Key]| {
        let section = section(table, name);
        for key in keys.iter().filter(|k| matches!(k.default, Default::ByFamily(..))) {
            if let (false, Some(value)) =
                (section.contains_key(key.name), key.default_for(facts.family.default(of, key.name)))
            {
                section.insert(key.name.into(), value);
            }
        }
    };
    fill(table, "method", method.name(), method.entry().keys);
    let of = |table: &Table, name: &str, key: &str| table.get(name).and_then(|t| t.get(key)).cloned();
    if of(table, "reference", "kind").is_some_and(|kind| kind.as_str() == Some("updated")) {
        let keys = TABLES.iter().find(|t| t.name == "reference").map_or(&[][..], |t| t.keys);
        fill(table, "reference", "reference", keys);
    }
    if let Some(Value::Table(safeguard)) = table.get_mut("safeguard") {
        if safeguard.get("name").and_then(Value::as_str) == Some("sdpo") {
            let own = facts.family.default("safeguard", "mu").and_then(|literal| literal.parse().ok());
            safeguard.entry("mu").or_insert(Value::Float(own.unwrap_or(method.needs.safeguard_mu)));
        } else {
            table.remove("safeguard");
        }
    }
    Ok(())
}

fn resolve_timesteps(table: &mut Table, facts: &Facts) -> std::result::Result<(), String> {
    if !table.contains_key("timesteps") {
        return Ok(());
    }
    let (timesteps, last) = (section(table, "timesteps"), facts.timesteps - 1);
    if timesteps.get("law").and_then(Value::as_str) == Some("list") {
        let values = timesteps.get("values").and_then(Value::as_array).cloned().unwrap_or_default();
        let outside = values.iter().filter_map(Value::as_integer).find(|t| *t > last);
        return match outside {
            _ if values.is_empty() => Err("timesteps.values = []: expected at least one timestep.".into()),
            Some(t) => Err(format!("timesteps.values: {t} is outside of this model's timesteps, 0 to {last}.")),
            None => Ok(()),
        };
    }
    let max = timesteps.entry("max").or_insert(Value::Integer(last)).as_integer().unwrap_or(last);
    let min = timesteps.get("min").and_then(Value::as_integer).unwrap_or(0);
    if max > last {
        return Err(format!("timesteps.max = {max}: expected at most {last}, the last timestep of this model."));
    }
    if min > max {
        return Err(format!("timesteps.min = {min}, timesteps.max = {max}: expected min to be at most max."));
    }
    Ok(())
}

/// The published grid of an inversion has whole steps.
fn check_inversion(table: &Table, facts: &Facts) -> std::result::Result<(), String> {
    let total = facts.timesteps;
    match method(table)?.needs.inversion {
        Some(Inversion { steps: n, .. }) if n > total => {
            Err(format!("method.inversion_steps = {n}: expected at most {total}, the timesteps of this model."))
        }
        Some(Inversion { grid: InversionGrid::Published, steps: n, .. }) if total % n != 0 => Err(format!(
            "method.inversion_steps = {n} with method.inversion = \"published\": expected a divisor of {total}, the timesteps of this model. Take 5 or 10."
        )),
        _ => Ok(()),
    }
}

/// Replaces `method.score_range = "auto"` by the range of the training pairs.
fn resolve_scores(table: &mut Table, facts: &Facts) -> std::result::Result<(), String> {
    let method = section(table, "method");
    let scorer = method.get("scorer").and_then(Value::as_str).unwrap_or_default().to_string();
    if is_auto(method, "score_range") {
        let Some(range) = facts.score_range.filter(|[low, high]| low < high) else {
            let found = facts.score_range.map_or("there are none".into(), |[low, _]| format!("all are {low}"));
            return Err(format!(
                "method.score_range = \"auto\": expected scores of \"{scorer}\" that differ, {found}. Give [lowest, highest], or take another scorer."
            ));
        };
        method.insert("score_range".into(), Value::Array(range.into_iter().map(Value::Float).collect()));
    }
    let range = method.get("score_range").and_then(Value::as_array);
    let Some([low, high]) = range.and_then(|r| Some([r.first()?.as_float()?, r.get(1)?.as_float()?])) else {
        return Ok(());
    };
    if low >= high {
        return Err(format!("method.score_range = [{low}, {high}]: expected the lowest score below the highest."));
    }
    Ok(())
}

fn resolve_lora(table: &mut Table) {
    let lora = section(table, "lora");
    let rank = lora.get("rank").and_then(Value::as_integer).unwrap_or(0);
    if rank == 0 {
        table.remove("lora");
    } else {
        lora.entry("alpha").or_insert(Value::Float(rank as f64));
    }
}

fn resolve_steps(table: &mut Table, facts: &Facts) -> std::result::Result<(), String> {
    let needs = method(table)?.needs;
    let (source, rollouts) = (Source::of(&needs), needs.rollouts);
    let train = section(table, "train");
    let integer = |t: &Table, key: &str| t.get(key).and_then(Value::as_integer);
    let micro_batch = integer(train, "micro_batch").unwrap_or(1);
    let grad_accum = match (integer(train, "grad_accum"), integer(train, "pairs_per_step")) {
        (Some(_), Some(_)) => {
            return Err("train.grad_accum and train.pairs_per_step are both given: expected one of them.".into());
        }
        (Some(g), None) => g,
        (None, None) => 1,
        (None, Some(p)) if p % micro_batch == 0 => p / micro_batch,
        (None, Some(p)) => {
            return Err(format!(
                "train.pairs_per_step = {p}: expected a multiple of train.micro_batch = {micro_batch}."
            ));
        }
    };
    train.remove("pairs_per_step");
    train.insert("grad_accum".into(), Value::Integer(grad_accum));
    let per_step = (micro_batch * grad_accum) as f64;
    let given = (integer(train, "steps"), train.get("epochs").and_then(Value::as_float));
    let steps = match given {
        (Some(_), Some(_)) => return Err("train.steps and train.epochs are both given: expected one of them.".into()),
        (Some(s), None) => s,
        (None, Some(epochs)) if source.has_items() => steps_of(epochs, facts.items as f64 / per_step)?,
        (None, Some(epochs)) => match rollouts::updates_of_iteration(table, rollouts.as_ref(), per_step) {
            Some(updates) => steps_of(epochs, updates)?,
            None => {
                return Err(format!(
                    "train.epochs = {epochs}: how many steps an iteration has depends on what its pictures are worth. Set train.steps, or rollout.updates_per_iteration."
                ));
            }
        },
        (None, None) => return Err("train.steps is missing: optimizer steps. Add it (or epochs) under [train].".into()),
    };
    let train = section(table, "train");
    train.remove("epochs");
    train.insert("steps".into(), Value::Integer(steps));
    Ok(())
}

/// ceil(epochs n / pairs per step)
fn steps_of(epochs: f64, steps_per_epoch: f64) -> std::result::Result<i64, String> {
    let steps = (epochs * steps_per_epoch).ceil().max(1.0);
    match steps <= MOST_STEPS {
        true => Ok(steps as i64),
        false => Err(format!("train.epochs = {epochs}: expected at most {MOST_STEPS:e} steps, these are {steps:e}.")),
    }
}

fn resolve_sample(table: &mut Table, facts: &Facts) {
    let sample = section(table, "sample");
    sample.entry("guidance_scale").or_insert(Value::Float(facts.guidance_scale));
    if !sample.get("prompts").is_some_and(Value::is_array) {
        let prompts = facts.sample_prompts.iter().cloned().map(Value::String).collect();
        sample.insert("prompts".into(), Value::Array(prompts));
    }
}
