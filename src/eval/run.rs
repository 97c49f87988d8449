//! `diffpref eval` as a library call.

use super::album::{Album, Easel};
use super::diversity::diversity;
use super::figures::by_group;
use super::gallery::{Gallery, write_sheet};
use super::groups::{Cell, MOST_SEEDS, PromptGroup, groups, plan};
use super::labellers::Teachers;
use super::prompts::{Prompt, read_prompts};
use super::scores::{self, ModelScores, Rater};
use crate::denoising::NamedModel;
use crate::keys::ConfigError;
use crate::machine::devices;
use crate::machine::files::{relative_to, write_atomically};
use crate::machine::hashes::HashMemory;
use crate::metrics::evaluation::{Evaluated, Evaluation, Group, Measured, PictureSettings, Scored};
use crate::metrics::signs;
use crate::painting::{Look, Sampling, check_size};
use crate::progress::{Progress, Stop};
use crate::scorers::{Better, Measure, Named, ScorerSpec, Table};
use anyhow::{Context, Result};
use pipelines::sampling::Guidance;
use pipelines::schedulers::Scheduler;
use pipelines::weights::LoadOptions;
use std::path::PathBuf;
use tch::{Device, Kind};

/// Options of `diffpref eval`.
#[derive(Debug, Clone)]
pub struct Request {
    /// At least two; the first is the one that the others are compared with.
    pub models: Vec<NamedModel>,
    pub prompts: PathBuf,
    /// The column of the prompts in `prompts`; `None`: the usual names.
    pub prompt_column: Option<String>,
    /// At least one.
    pub scorers: Vec<ScorerSpec>,
    /// Labels, rewards and data that the models were taught by.
    pub teachers: Teachers,
    /// Pictures per held-out prompt, or per prompt if none is held out.
    pub seeds: u64,
    /// Pictures per prompt that is not held out, if others are.
    pub other_seeds: u64,
    /// DDIM steps.
    pub steps: usize,
    /// `None`: that of the first model's family.
    pub guidance_scale: Option<f64>,
    /// Pixels; `None`: the training size of the first model's UNet.
    pub resolution: Option<i64>,
    pub device: Device,
    /// Data type of the networks: float32 or bfloat16.
    pub kind: Kind,
    /// Pictures painted at once.
    pub batch: usize,
    pub out: PathBuf,
    /// Folder of the pictures; `None`: in `out`. Evaluations that share one paint and rate a model once.
    pub pictures: Option<PathBuf>,
    /// Folder of remembered hashes of large files.
    pub cache_dir: PathBuf,
}

/// Paints, rates and compares; writes pictures, `sheet.png`, `scores.jsonl` and `eval.json` into the folder. A second
/// call adds only what is missing.
///
/// # Errors
/// [`ConfigError`] for wrong options (exit code 2), [`crate::progress::Stopped`] after a signal: finished pictures
/// are kept.
pub fn evaluate(request: &Request, progress: &dyn Progress, stop: &Stop) -> Result<Evaluation> {
    let (prompts, left_out) = read_prompts(&request.prompts, request.prompt_column.as_deref())?;
    check(request)?;
    if left_out > 0 {
        progress.line(&format!("{}: {left_out} rows repeat a prompt and do not count", request.prompts.display()));
    }
    let settings = settings(request, progress)?;
    let mut memory = HashMemory::open(&request.cache_dir);
    let raters = open_scorers(request, &prompts, &mut memory, progress)?;
    let warnings = raters.iter().map(|rater| request.teachers.warnings(&rater.spec));
    let warnings: Vec<String> = warnings.collect::<Result<Vec<_>>>()?.into_iter().flatten().collect();
    warnings.iter().for_each(|warning| progress.line(&format!("warning: {warning}")));
    let cells = plan(&prompts, request.seeds, request.other_seeds);
    let easel = Easel {
        look: look(request, &settings),
        settings: &settings,
        device: request.device,
        kind: request.kind,
        progress,
        stop,
    };
    let albums = paint(request, &easel, &prompts, &cells, &mut memory)?;
    let tables = raters.iter().map(|rater| {
        albums.iter().map(|album| rater.rate(album, &prompts, &cells, stop)).collect::<Result<Vec<Table>>>()
    });
    let tables = tables.collect::<Result<Vec<_>>>()?; // [scorers][models]
    let groups = groups(&prompts, request.seeds, request.other_seeds);
    let models = request.models.iter().zip(&albums).map(|(m, a)| evaluated(m, a, &cells, request, stop));
    let models = models.collect::<Result<Vec<Evaluated>>>()?;
    let folders: Vec<PathBuf> = models.iter().map(|model| model.pictures.clone()).collect();
    let scored = raters.iter().zip(&tables).map(|(rater, tables)| scored(rater, tables, &groups, &cells));
    let mut scorers = scored.collect::<Result<Vec<Scored>>>()?;
    groups.iter().for_each(|group| signs::correct(&mut scorers, group.name));
    let gallery = groups.first().map(|group| Gallery { group, prompts: &prompts, folders: &folders });
    let measures = with_direction(&raters, &tables);
    let evaluation = Evaluation {
        scorers,
        groups: groups.iter().map(described).collect(),
        warnings,
        most_different: gallery.as_ref().map(|of| of.most_different(&cells, &measures)).unwrap_or_default(),
        gallery: gallery.map(|gallery| gallery.spread()).unwrap_or_default(),
        folder: request.out.clone(),
        models,
        settings,
    };
    if let Some(group) = groups.first() {
        write_sheet(&request.out.join("sheet.png"), group, &albums)?;
    }
    let mut of_models = Vec::new();
    for (index, Evaluated { name, pictures, .. }) in evaluation.models.iter().enumerate() {
        let tables = tables.iter().map(|of_scorer| &of_scorer[index]).collect();
        of_models.push(ModelScores { model: name, pictures, tables });
    }
    scores::write(&request.out.join("scores.jsonl"), &of_models, &raters, &prompts, &cells)?;
    let mut json = serde_json::to_vec_pretty(&evaluation)?;
    json.push(b'\n');
    write_atomically(&request.out.join("eval.json"), &json)?;
    Ok(evaluation)
}

/// The albums of all models, with every picture in them.
fn paint(
    request: &Request,
    easel: &Easel,
    prompts: &[Prompt],
    cells: &[Cell],
    memory: &mut HashMemory,
) -> Result<Vec<Album>> {
    let pictures = request.pictures.clone().unwrap_or_else(|| request.out.join("pictures"));
    std::fs::create_dir_all(&pictures).with_context(|| format!("cannot make the folder {}", pictures.display()))?;
    let mut albums = Vec::new();
    for model in &request.models {
        let album = Album::of(model, easel, prompts, &pictures, memory)?;
        memory.save();
        let made = album.paint(model, easel, prompts, cells, memory)?;
        easel.progress.line(&format!("{}: {made} pictures made, {} were there", model.name, cells.len() - made));
        albums.push(album);
    }
    Ok(albums)
}

fn check(request: &Request) -> Result<(), ConfigError> {
    let refuse = |text: String| Err(ConfigError(text));
    if request.models.len() < 2 {
        return refuse(format!(
            "eval compares models: expected at least two, found {}; give --run or --model twice",
            request.models.len()
        ));
    }
    let mut seen = std::collections::HashSet::new();
    if let Some(model) = request.models.iter().find(|model| !seen.insert(&model.name)) {
        return refuse(format!("--model {}: two models have this name; give each its own", model.name));
    }
    if request.scorers.is_empty() {
        return refuse("there is no scorer: give --scorer NAME=PATH; `diffpref scorers` lists them".into());
    }
    if request.seeds == 0 || request.other_seeds == 0 {
        return refuse("--seeds and --other-seeds: expected at least 1".into());
    }
    if request.seeds.max(request.other_seeds) > MOST_SEEDS {
        return refuse(format!("--seeds and --other-seeds: expected at most {MOST_SEEDS}"));
    }
    if let Some(scale) = request.guidance_scale.filter(|scale| !(scale.is_finite() && *scale >= 0.0)) {
        return refuse(format!("--guidance-scale {scale}: expected a number from 0 up"));
    }
    Ok(())
}

fn settings(request: &Request, progress: &dyn Progress) -> Result<PictureSettings> {
    let (mut side, mut guidance_scale) = (request.resolution, request.guidance_scale);
    for model in &request.models {
        let folder = model.request(request.device, request.kind).folder(progress)?;
        let factor = folder.vae().factor();
        guidance_scale.get_or_insert(folder.family().guidance_scale());
        let side = *side.get_or_insert(folder.native_resolution());
        check_size(side, side, factor)?;
        let sampling = Sampling { steps: request.steps as i64, ..Sampling::default() };
        sampling.sampler(folder.scheduler()).map_err(|e| ConfigError(format!("--steps {}: {e}", request.steps)))?;
    }
    let (side, guidance_scale) = (side.unwrap_or_default(), guidance_scale.unwrap_or_default());
    if let Some(model) = request.models.iter().find(|model| model.negative.is_some())
        && Guidance::of_scale(guidance_scale).is_off()
    {
        return Err(ConfigError(format!(
            "--guidance-scale {guidance_scale} switches guidance off: the negative model of {:?} would do nothing; leave one of them out",
            model.name
        ))
        .into());
    }
    Ok(PictureSettings {
        scheduler: Scheduler::ddim().name.into(),
        steps: request.steps,
        guidance_scale,
        width: side,
        height: side,
        device: devices::name(request.device),
        dtype: if request.kind == Kind::Float { "float32" } else { "bfloat16" }.into(),
    })
}

fn look(request: &Request, settings: &PictureSettings) -> Look {
    Look {
        width: settings.width,
        height: settings.height,
        sampling: Sampling {
            steps: settings.steps as i64,
            guidance: Guidance::of_scale(settings.guidance_scale),
            ..Sampling::default()
        },
        batch: request.batch,
        ..Look::default()
    }
}

/// Opens the scorers, and checks that they can rate pictures of every prompt. A scorer that compares latents reads the VAE of
/// the first model: the pictures of all models are compared in one space.
fn open_scorers(
    request: &Request,
    prompts: &[Prompt],
    memory: &mut HashMemory,
    progress: &dyn Progress,
) -> Result<Vec<Rater>> {
    let first = request.models.first().context("there is no model")?;
    let folder = first.request(request.device, request.kind).folder(progress)?;
    let options = LoadOptions { device: request.device, kind: request.kind };
    let named = Named::open_all(&request.scorers, options, Some(&folder)).context("--scorer")?;
    let mut raters = Vec::new();
    for (spec, named) in request.scorers.iter().zip(named) {
        let check = named.check(prompts.iter().map(|prompt| prompt.text.as_str()));
        check.with_context(|| format!("--prompts {}", request.prompts.display()))?;
        named.note(prompts.iter().map(|prompt| prompt.text.as_str()))?.iter().for_each(|note| progress.line(note));
        raters.push(Rater::new(spec.clone(), named, &folder, memory)?);
    }
    Ok(raters)
}

/// The figures of one scorer. `tables`: one per model.
fn scored(rater: &Rater, tables: &[Table], groups: &[PromptGroup], cells: &[Cell]) -> Result<Scored> {
    let measured = |(column, measure): (usize, &Measure)| Measured {
        measure: measure.clone(),
        groups: by_group(groups, cells, tables, measure, column),
    };
    Ok(Scored {
        name: rater.named.name.clone(),
        about: rater.spec.declaration()?.about.into(),
        path: rater.spec.path.clone(),
        accuracy: rater.named.scorer.accuracy()?,
        measures: rater.named.scorer.measures().iter().enumerate().map(measured).collect(),
    })
}

/// `[models][cells]` numbers of every measure with a better direction. `tables`: `[scorers][models]`.
fn with_direction(raters: &[Rater], tables: &[Vec<Table>]) -> Vec<Vec<Vec<f64>>> {
    let of_scorer = |(rater, models): (&Rater, &Vec<Table>)| {
        let measures = rater.named.scorer.measures().iter().enumerate();
        let directed = measures.filter(|(_, measure)| measure.better != Better::Neither);
        let columns = directed.map(|(column, _)| models.iter().map(|table| table.column(column)).collect());
        columns.collect::<Vec<Vec<Vec<f64>>>>()
    };
    raters.iter().zip(tables).flat_map(of_scorer).collect()
}

fn described(group: &PromptGroup) -> Group {
    Group { name: group.name.into(), prompts: group.prompts.len(), seeds: group.seeds }
}

fn evaluated(model: &NamedModel, album: &Album, cells: &[Cell], request: &Request, stop: &Stop) -> Result<Evaluated> {
    Ok(Evaluated {
        name: model.name.clone(),
        source: model.source(),
        key: album.key.clone(),
        pictures: relative_to(&request.out, &album.dir)?,
        diversity: diversity(album, cells, stop)?,
    })
}
