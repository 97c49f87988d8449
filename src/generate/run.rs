//! `diffpref generate` as a library call.

use super::folder::{self, OutFolder};
use super::model::lora_hashes;
use super::record::PROGRAM;
use super::{
    Grid, Look, Model, ModelRequest, NegativeSide, Picture, PromptMemory, SamplingRequest, Worn, check_size, grid,
};
use crate::config::ConfigError;
use crate::hashes::{self, HashMemory};
use crate::progress::{Progress, Stop};
use anyhow::{Context, Result};
use image::RgbImage;
use pipelines::families::{EmptySide, ModelFolder};
use pipelines::sampling::Guidance;
use pipelines::schedulers::{Scheduler, SchedulerConfig, ddim};
use serde_json::{Map, Value, json};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use tch::{Device, Kind};

/// Everything `diffpref generate` can be asked.
#[derive(Debug, Clone)]
pub struct Request {
    pub model: ModelRequest,
    pub prompts: Vec<String>,
    /// None: what the model's pipeline gives the side without a prompt.
    pub negative_prompt: Option<String>,
    pub sampling: SamplingRequest,
    /// Picture i of every prompt has the seed `seed + i`.
    pub seed: u64,
    pub num_images: u64,
    /// None: the size the UNet was trained on.
    pub width: Option<i64>,
    pub height: Option<i64>,
    pub batch: usize,
    /// Whether grid.png is made too.
    pub grid: bool,
    pub resume: bool,
    pub out: PathBuf,
    /// Where hashes of large files are remembered.
    pub cache_dir: PathBuf,
}

/// What a call of [`run`] did.
#[derive(Debug)]
pub struct Outcome {
    pub painted: usize,
    /// Pictures that were there already, equal.
    pub skipped: usize,
    /// The records of all pictures asked for, in order.
    pub records: Vec<Value>,
    pub grid: Option<PathBuf>,
}

/// Makes the pictures of a request.
///
/// # Errors
/// [`ConfigError`] for what the options say (exit code 2), [`crate::progress::Stopped`] after a signal: the pictures made
/// so far are whole and `resume` goes on from them.
pub fn run(request: &Request, progress: &dyn Progress, stop: &Stop) -> Result<Outcome> {
    let model_folder = request.model.folder(progress)?;
    let look = look(request, &model_folder)?;
    let layout = layout(request, &look)?;
    folder::prepare(&request.out, request.resume)?;
    let mut hashes = HashMemory::open(&request.cache_dir);
    let negative = NegativeSide::of(&request.model, &model_folder, &mut hashes)?;
    let planned = plan(request, &model_folder, &look, &mut hashes)?;
    hashes.save();
    let mut out = OutFolder::open(&request.out, &planned)?;
    let missing: Vec<&Value> = planned.iter().filter(|record| !out.has(record)).collect();
    let skipped = planned.len() - missing.len();
    if skipped > 0 {
        progress.line(&format!("{skipped} of {} pictures are there already", planned.len()));
    }
    if !missing.is_empty() {
        say_what_diffusers_does_too(&look, model_folder.scheduler(), progress);
        let painting = Painting { request, negative, look: &look, progress, stop };
        painting.paint(model_folder, &missing, &mut out)?;
    }
    out.close()?;
    let grid = layout.map(|layout| write_grid(&request.out, layout, &planned)).transpose()?;
    Ok(Outcome { painted: planned.len() - skipped, skipped, records: planned, grid })
}

fn look(request: &Request, folder: &ModelFolder) -> Result<Look> {
    let sampling =
        request.sampling.resolve(folder.scheduler(), request.model.overrides, folder.family().guidance_scale())?;
    check_request(request)?;
    check_negative_side(request, &sampling.guidance)?;
    let factor = folder.vae_config(request.model.vae.as_deref())?.factor();
    let side = folder.unet().sample_size * factor;
    let (width, height) = (request.width.unwrap_or(side), request.height.unwrap_or(side));
    check_size(width, height, factor)?;
    check_clip_skip(request.model.overrides.clip_skip, folder)?;
    Ok(Look { width, height, sampling, negative_prompt: request.negative_prompt.clone(), batch: request.batch.max(1) })
}

fn check_request(request: &Request) -> Result<(), ConfigError> {
    if request.prompts.is_empty() || request.num_images == 0 {
        return Err(ConfigError("there is nothing to paint: give at least one prompt and --num-images 1".to_string()));
    }
    let last = request.seed.checked_add(request.num_images - 1).filter(|last| *last <= i64::MAX as u64);
    if last.is_none() {
        return Err(ConfigError(format!("--seed {}: with --num-images it passes 2^63 - 1", request.seed)));
    }
    Ok(())
}

/// Refuses a negative network that guidance would never ask.
fn check_negative_side(request: &Request, guidance: &Guidance) -> Result<(), ConfigError> {
    match request.model.negative.is_some() && guidance.is_off() {
        true => Err(ConfigError(
            "--guidance-scale 1 switches guidance off: the negative model would do nothing; leave one of them out"
                .to_string(),
        )),
        false => Ok(()),
    }
}

/// Refuses to skip more layers than a text encoder has, before weights are read.
fn check_clip_skip(clip_skip: usize, folder: &ModelFolder) -> Result<(), ConfigError> {
    let most = folder.most_clip_skip();
    match clip_skip > most {
        true => {
            Err(ConfigError(format!("--clip-skip {clip_skip}: expected 0 to {most} for this model's text encoders")))
        }
        false => Ok(()),
    }
}

fn layout(request: &Request, look: &Look) -> Result<Option<Grid>, ConfigError> {
    if !request.grid {
        return Ok(None);
    }
    let images = usize::try_from(request.num_images).unwrap_or(usize::MAX);
    match Grid::of(request.prompts.len(), images, look.width as u32, look.height as u32) {
        Some(layout) => Ok(Some(layout)),
        None => Err(ConfigError(format!(
            "--grid: {} prompts x {images} pictures make a picture that nothing opens; leave it out",
            request.prompts.len()
        ))),
    }
}

/// The records of all pictures, in order.
fn plan(request: &Request, folder: &ModelFolder, look: &Look, hashes: &mut HashMemory) -> Result<Vec<Value>> {
    let weights = request.model.weight_hashes(folder, hashes)?;
    let loras = lora_hashes(&request.model.loras, hashes)?;
    let negative = request.model.negative_record(folder, hashes)?;
    let empty_side = match folder.empty_side() {
        EmptySide::Encoded => "encoded",
        EmptySide::Zeros => "zeros",
    };
    let sampling = sampling_record(look, folder.scheduler())?;
    let mut records = Vec::new();
    for (index, prompt) in request.prompts.iter().enumerate() {
        for image in 0..request.num_images {
            let mut record = json!({
                "file": format!("{index:06}-{image:02}.png"),
                "prompt": prompt,
                "negative_prompt": look.negative_prompt,
                "seed": request.seed + image,
                "model": request.model.model.path.display().to_string(),
                "unet": request.model.unet.as_ref().map(|path| path.display().to_string()),
                "vae": request.model.vae.as_ref().map(|path| path.display().to_string()),
                "loras": loras,
                "negative": negative,
                "clip_skip": request.model.overrides.clip_skip,
                "empty_side": empty_side,
                "width": look.width,
                "height": look.height,
                "dtype": kind_name(request.model.kind),
                "device": device_name(request.model.device),
                "batch": look.batch,
                "weights": weights,
                "program": PROGRAM,
            });
            if let Some(record) = record.as_object_mut() {
                record.extend(sampling.clone());
            }
            records.push(record);
        }
    }
    Ok(records)
}

/// What of a record says how its picture was sampled.
fn sampling_record(look: &Look, noise_process: &SchedulerConfig) -> Result<Map<String, Value>> {
    let sampling = &look.sampling;
    let (scale, rescale, lambda) = match sampling.guidance {
        Guidance::ClassifierFree { scale, rescale } => (Some(scale), rescale, None),
        Guidance::PlusPlus { lambda } => (None, 0.0, Some(lambda)),
    };
    let file: BTreeMap<_, _> = noise_process.values().iter().filter(|(key, _)| *key != "_diffusers_version").collect();
    let record = json!({
        "guidance_scale": scale,
        "guidance_rescale": rescale,
        "cfg_plus_plus": lambda,
        "scheduler": sampling.scheduler.name,
        "eta": sampling.options.eta,
        "karras": sampling.scheduler.uses_karras(noise_process, sampling.options.karras)?,
        "prediction_type": noise_process.prediction_type.name(),
        "zero_terminal_snr": noise_process.rescale_betas_zero_snr && sampling.scheduler.takes_zero_terminal_snr,
        "scheduler_config": hashes::of_bytes(serde_json::to_string(&file)?.as_bytes()),
        "steps": sampling.steps,
    });
    Ok(record.as_object().cloned().unwrap_or_default())
}

/// What a model's scheduler_config.json leads to that its owner may not expect.
fn say_what_diffusers_does_too(look: &Look, noise_process: &SchedulerConfig, progress: &dyn Progress) {
    let (scheduler, file) = (look.sampling.scheduler, noise_process.path.display());
    if scheduler == Scheduler::ddim() && ddim::clips_latents(noise_process) {
        progress.line(&format!(
            "note: {file} does not say clip_sample, so DDIM clips the latents as in diffusers; add \"clip_sample\": false if \
             the pictures look flat"
        ));
    }
    if noise_process.rescale_betas_zero_snr && !scheduler.takes_zero_terminal_snr {
        progress.line(&format!(
            "note: {file} asks for zero terminal SNR, which {} ignores as in diffusers",
            scheduler.name
        ));
    }
}

/// A request on its way to pictures.
struct Painting<'a> {
    request: &'a Request,
    negative: Option<NegativeSide>,
    look: &'a Look,
    progress: &'a dyn Progress,
    stop: &'a Stop,
}

impl Painting<'_> {
    fn paint(&self, folder: ModelFolder, records: &[&Value], out: &mut OutFolder) -> Result<()> {
        let (request, negative) = (&self.request.model, self.negative.as_ref());
        let pictures: Vec<Picture> = records
            .iter()
            .map(|record| Picture {
                prompt: record["prompt"].as_str().unwrap_or_default(),
                seed: record["seed"].as_u64().unwrap_or_default(),
            })
            .collect();
        let worn = Worn::read(request, negative, &folder.lora_targets())?;
        let mut prompts = Model::load_prompts(&folder, request, &worn)?;
        self.encode(&mut prompts, &pictures)?;
        let model = Model::load_around(prompts, folder, request, negative, &worn)?;
        model.memory().iter().for_each(|line| self.progress.line(line));
        self.progress.begin("sample", 0, pictures.len() as u64);
        let mut save = |index: usize, image: RgbImage| out.add(records[index], &image);
        let result = model.painter().paint(&pictures, self.look, model.adapters, self.progress, self.stop, &mut save);
        self.progress.end();
        result
    }

    /// Encodes the prompts before the other networks need the memory.
    fn encode(&self, prompts: &mut PromptMemory, pictures: &[Picture]) -> Result<()> {
        self.say_what_is_cut(prompts)?;
        let texts: Vec<&str> = pictures.iter().map(|picture| picture.prompt).collect();
        prompts.encode_ahead(&texts, self.look.negative_prompt.as_deref(), &mut |_| Ok(self.stop.check()?))
    }

    fn say_what_is_cut(&self, prompts: &PromptMemory) -> Result<()> {
        let Some(text) = prompts.text() else { return Ok(()) };
        let mut cut = 0;
        for prompt in self.request.prompts.iter().chain(&self.request.negative_prompt) {
            cut += usize::from(text.tokens_cut(prompt)? > 0);
        }
        if cut > 0 {
            let room = text.length() - 2;
            self.progress.line(&format!(
                "note: {cut} prompts are longer than the {room} tokens of the text encoder and are cut"
            ));
        }
        Ok(())
    }
}

fn write_grid(out: &Path, layout: Grid, records: &[Value]) -> Result<PathBuf> {
    let read = |record: &Value| {
        let path = out.join(record["file"].as_str().unwrap_or_default());
        let image = image::open(&path).with_context(|| format!("cannot read {} for the grid", path.display()))?;
        Ok(image.to_rgb8())
    };
    let pictures = records.iter().map(read).collect::<Result<Vec<RgbImage>>>()?;
    let path = out.join("grid.png");
    super::png::write(&path, &grid(layout, &pictures), &[])?;
    Ok(path)
}

/// The names that `--dtype` takes.
pub fn kind_name(kind: Kind) -> &'static str {
    match kind {
        Kind::Double => "float64",
        Kind::BFloat16 => "bfloat16",
        Kind::Half => "float16",
        _ => "float32",
    }
}

fn device_name(device: Device) -> String {
    match device {
        Device::Cpu => "cpu".to_string(),
        Device::Cuda(index) => format!("cuda:{index}"),
        other => format!("{other:?}").to_lowercase(),
    }
}
