//! `diffpref eval` as a library call.

use super::figures::{Evaluated, Evaluation, GalleryRow, Judged, Settings};
use super::intervals::paired_bootstrap;
use super::measures::{PerName, per_name};
use super::models::NamedModel;
use super::names::{Name, read_names};
use super::pictures::{Album, Easel, Place, plan};
use crate::data::labelled_by::{Labeller, Taught};
use crate::machine::files::write_atomically;
use crate::machine::hashes::{self, HashMemory};
use crate::painting::{Grid, Look, Sampling, check_size, grid, write_png};
use crate::progress::{Progress, Stop};
use crate::scorers::{Drawings, Judge, Nearest, TrainedJudge};
use crate::settings::ConfigError;
use anyhow::{Context, Result};
use pipelines::sampling::Guidance;
use pipelines::schedulers::Scheduler;
use pipelines::weights::LoadOptions;
use std::path::{Path, PathBuf};
use tch::{Device, Kind};

/// Names and seeds that the report shows.
const GALLERY_NAMES: usize = 12;
const GALLERY_SEEDS: u64 = 3;

/// Everything `diffpref eval` can be asked.
#[derive(Debug, Clone)]
pub struct Request {
    /// At least two; the first is the one that the others are compared with.
    pub models: Vec<NamedModel>,
    pub prompts: PathBuf,
    /// The folder of a trained judge.
    pub judge: Option<PathBuf>,
    /// Drawings for the judges without training.
    pub drawings: Option<PathBuf>,
    /// The judges that labelled what the models were trained on.
    pub labellers: Vec<Labeller>,
    /// Pictures a held-out name.
    pub seeds: u64,
    /// Pictures a name for content accuracy.
    pub content_seeds: u64,
    /// DDIM steps.
    pub steps: usize,
    /// None: that of the first model's family.
    pub guidance_scale: Option<f64>,
    /// Pixels; None: the size the first model's UNet was trained on.
    pub resolution: Option<i64>,
    pub device: Device,
    /// What the networks compute in: float32 or bfloat16.
    pub kind: Kind,
    /// Pictures painted at once.
    pub batch: usize,
    pub out: PathBuf,
    /// Folder of remembered hashes of large files.
    pub cache_dir: PathBuf,
}

/// Paints, judges and compares; writes pictures, `sheet.png` and `eval.json` into the folder. A second call makes only
/// what is missing.
///
/// # Errors
/// [`ConfigError`] for what the options say (exit code 2), [`crate::progress::Stopped`] after a signal: what is painted
/// by then is kept.
pub fn evaluate(request: &Request, progress: &dyn Progress, stop: &Stop) -> Result<Evaluation> {
    let names = read_names(&request.prompts)?;
    check(request)?;
    let settings = settings(request, progress)?;
    let judges = judges(request, &names, progress)?;
    check_names(&names, &judges, &request.prompts)?;
    for warning in judges.iter().filter_map(|judge| own_labels(judge.as_ref(), &request.labellers)) {
        progress.line(&format!("warning: {warning}"));
    }
    let places = plan(&names, request.seeds, request.content_seeds);
    let easel = Easel {
        look: look(request, &settings),
        settings: &settings,
        device: request.device,
        kind: request.kind,
        progress,
        stop,
    };
    let pictures = request.out.join("pictures");
    std::fs::create_dir_all(&pictures).with_context(|| format!("cannot make the folder {}", pictures.display()))?;
    let mut memory = HashMemory::open(&request.cache_dir);
    let mut albums = Vec::new();
    for model in &request.models {
        let album = Album::of(model, &easel, &names, &pictures, &mut memory)?;
        memory.save();
        let made = album.paint(model, &easel, &names, &places, &mut memory)?;
        progress.line(&format!("{}: {made} pictures made, {} were there", model.name, places.len() - made));
        albums.push(album);
    }
    let judged = judges.iter().map(|judge| judged(judge.as_ref(), &albums, &names, &places, request, stop));
    let evaluation = Evaluation {
        judges: judged.collect::<Result<_>>()?,
        models: request.models.iter().zip(&albums).map(|(model, album)| evaluated(model, album, request)).collect(),
        names: names.len(),
        held_out_names: names.iter().filter(|name| name.held_out).count(),
        gallery: gallery(&names, &albums, request),
        folder: request.out.clone(),
        settings,
    };
    write_sheet(&names, &albums, request)?;
    let mut json = serde_json::to_vec_pretty(&evaluation)?;
    json.push(b'\n');
    write_atomically(&request.out.join("eval.json"), &json)?;
    Ok(evaluation)
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
    if request.judge.is_none() && request.drawings.is_none() {
        return refuse(
            "there is no judge: give --judge (a trained one), --drawings (nearest drawings), or both".into(),
        );
    }
    if request.seeds == 0 || request.content_seeds == 0 {
        return refuse("--seeds and --content-seeds: expected at least 1".into());
    }
    if let Some(scale) = request.guidance_scale.filter(|scale| !(scale.is_finite() && *scale >= 0.0)) {
        return refuse(format!("--guidance-scale {scale}: expected a number from 0 up"));
    }
    Ok(())
}

fn settings(request: &Request, progress: &dyn Progress) -> Result<Settings> {
    let (mut side, mut guidance_scale) = (request.resolution, request.guidance_scale);
    for model in &request.models {
        let folder = model.request(request.device, request.kind).folder(progress)?;
        let factor = folder.vae().factor();
        guidance_scale.get_or_insert(folder.family().guidance_scale());
        let side = *side.get_or_insert(folder.unet().sample_size * factor);
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
    let device = match request.device {
        Device::Cuda(index) => format!("cuda:{index}"),
        other => format!("{other:?}").to_lowercase(),
    };
    Ok(Settings {
        seeds: request.seeds,
        content_seeds: request.content_seeds,
        scheduler: Scheduler::ddim().name.into(),
        steps: request.steps,
        guidance_scale,
        width: side,
        height: side,
        device,
        dtype: if request.kind == Kind::Float { "float32" } else { "bfloat16" }.into(),
    })
}

fn look(request: &Request, settings: &Settings) -> Look {
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

fn judges(request: &Request, names: &[Name], progress: &dyn Progress) -> Result<Vec<Box<dyn Judge>>> {
    let mut judges: Vec<Box<dyn Judge>> = Vec::new();
    if let Some(dir) = &request.judge {
        judges.push(Box::new(TrainedJudge::open(dir)?));
    }
    let (Some(dir), Some(first)) = (&request.drawings, request.models.first()) else { return Ok(judges) };
    let slugs = names.iter().map(|name| Some((name.prompt.clone(), name.slug.clone()?)));
    let slugs = slugs.collect::<Option<Vec<_>>>().with_context(|| {
        format!(
            "{}: --drawings needs a `slug` in every row, the file name of its drawings without ending",
            request.prompts.display()
        )
    })?;
    judges.push(Box::new(Nearest::pixels(Drawings::read(dir, &slugs)?)?));
    // Both models' pictures are compared in one space, that of the first model.
    let folder = first.request(request.device, request.kind).folder(progress)?;
    let options = LoadOptions { device: request.device, kind: request.kind };
    let mut vae_hash = String::new();
    for (_, file) in folder.weight_files().iter().filter(|(part, _)| *part == "vae") {
        vae_hash.push_str(&hashes::of_file(file)?);
    }
    let drawings = Drawings::read(dir, &slugs)?;
    judges.push(Box::new(Nearest::latents(drawings, folder.load_vae(None, &options)?, request.device, &vae_hash)?));
    Ok(judges)
}

fn check_names(names: &[Name], judges: &[Box<dyn Judge>], file: &Path) -> Result<()> {
    for judge in judges {
        let known: std::collections::HashSet<&String> = judge.names().iter().collect();
        if let Some((row, name)) = names.iter().enumerate().find(|(_, name)| !known.contains(&name.prompt)) {
            anyhow::bail!(
                "{} prompt {} ({:?}): the judge {:?} does not know it, only {} other names; use the prompts that the judge was made for",
                file.display(),
                row + 1,
                name.prompt,
                judge.key(),
                known.len()
            );
        }
    }
    Ok(())
}

/// What to know of a judge that labelled the training data itself.
fn own_labels(judge: &dyn Judge, labellers: &[Labeller]) -> Option<String> {
    let weights = judge.weights_sha256()?;
    let labeller = labellers.iter().find(|labeller| labeller.weights_sha256 == weights)?;
    let did = match &labeller.taught {
        Taught::Data(data) => {
            format!("labelled the training data ({} follows {:?}, the same weights)", data.display(), labeller.judge)
        }
        Taught::Rewards => {
            format!("rated the samples that the model was trained on (reward.scorers, {:?})", labeller.judge)
        }
    };
    Some(format!(
        "the judge {:?} also {did}: where it errs, the model was taught to err alike, and its figures cannot tell. Judge \
           with one that labelled nothing",
        judge.key()
    ))
}

fn judged(
    judge: &dyn Judge,
    albums: &[Album],
    names: &[Name],
    places: &[Place],
    request: &Request,
    stop: &Stop,
) -> Result<Judged> {
    let mut values: Vec<PerName> = Vec::new();
    for album in albums {
        let opinions = album.judge(judge, places, stop)?;
        values.push(per_name(names, places, &opinions, request.seeds, request.content_seeds));
    }
    let measure = |of: &dyn Fn(&PerName) -> &Vec<f64>| {
        let per_model: Vec<Vec<f64>> = values.iter().map(|v| of(v).clone()).collect();
        paired_bootstrap(&per_model).context("there is no picture to measure")
    };
    Ok(Judged {
        judge: judge.key().into(),
        about: judge.about(),
        accuracy: judge.accuracy()?,
        warning: own_labels(judge, &request.labellers),
        flat_share: measure(&|v| &v.flat)?,
        content_accuracy: measure(&|v| &v.content)?,
    })
}

fn evaluated(model: &NamedModel, album: &Album, request: &Request) -> Evaluated {
    let pictures = album.dir.strip_prefix(&request.out).unwrap_or(&album.dir).to_path_buf();
    Evaluated { name: model.name.clone(), source: model.source(), key: album.key.clone(), pictures }
}

/// Held-out names spread over the file, with the first seeds.
fn gallery(names: &[Name], albums: &[Album], request: &Request) -> Vec<GalleryRow> {
    let held_out: Vec<usize> = (0..names.len()).filter(|i| names[*i].held_out).collect();
    let shown = GALLERY_NAMES.min(held_out.len());
    let seeds: Vec<u64> = (0..GALLERY_SEEDS.min(request.seeds)).collect();
    let row = |k: usize| {
        let name = held_out[k * held_out.len() / shown];
        let files = |album: &Album| {
            let dir = album.dir.strip_prefix(&request.out).unwrap_or(&album.dir).to_path_buf();
            seeds.iter().map(|seed| dir.join(Place { name, seed: *seed }.file())).collect()
        };
        let files = albums.iter().map(files).collect();
        GalleryRow { prompt: names[name].prompt.clone(), held_out: true, seeds: seeds.clone(), files }
    };
    (0..shown).map(row).collect()
}

/// `sheet.png`: a row a held-out name, all seeds of the first model, then those of the next.
fn write_sheet(names: &[Name], albums: &[Album], request: &Request) -> Result<()> {
    let held_out: Vec<usize> = (0..names.len()).filter(|i| names[*i].held_out).collect();
    let mut sheet = Vec::new();
    for &name in &held_out {
        for album in albums {
            for seed in 0..request.seeds {
                sheet.push(album.picture(Place { name, seed })?);
            }
        }
    }
    let columns = albums.len() * request.seeds as usize;
    let side = sheet.first().map_or(0, |picture| picture.width());
    match Grid::of(held_out.len(), columns, side, side) {
        Some(_) => {
            let layout = Grid { columns: columns as u32, rows: held_out.len() as u32 };
            write_png(&request.out.join("sheet.png"), &grid(layout, &sheet), &[])
        }
        None => Ok(()), // too large for one file; the pictures lie in their folders
    }
}
