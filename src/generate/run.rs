//! `diffpref generate` as a library call.

use super::folder::{self, OutFolder};
use super::planned::plan;
use super::record::Record;
use super::request::Request;
use crate::keys::ConfigError;
use crate::machine::hashes::HashMemory;
use crate::painting::{
    Grid, Look, Model, NegativeSide, Painted, Picture, PromptMemory, Tiling, Worn, check_size, grid, write_png,
};
use crate::progress::{Progress, Stop};
use anyhow::{Context, Result};
use image::RgbImage;
use pipelines::families::ModelFolder;
use pipelines::sampling::Guidance;
use pipelines::schedulers::{Scheduler, SchedulerConfig, ddim};
use std::path::{Path, PathBuf};

/// Result of [`run`].
#[derive(Debug)]
pub struct Outcome {
    pub painted: usize,
    /// Pictures that existed already, equal.
    pub skipped: usize,
    /// Records of all requested pictures, in order.
    pub records: Vec<Record>,
    pub grid: Option<PathBuf>,
}

/// Makes the pictures of a request.
///
/// # Errors
/// [`ConfigError`] for wrong options (exit code 2). [`crate::progress::Stopped`] after a signal: finished pictures
/// are whole and `resume` continues from them.
pub fn run(request: &Request, progress: &dyn Progress, stop: &Stop) -> Result<Outcome> {
    let job = Job::check(request, progress)?;
    folder::prepare(&request.out, request.resume)?;
    job.plan()?.paint(progress, stop)
}

/// A request whose options were checked against its model; no weights are read yet.
pub(super) struct Job<'a> {
    request: &'a Request,
    folder: ModelFolder,
    pub look: Look,
    layout: Option<Grid>,
}

impl<'a> Job<'a> {
    pub fn check(request: &'a Request, progress: &dyn Progress) -> Result<Self> {
        let folder = request.model.folder(progress)?;
        let look = look(request, &folder)?;
        let layout = layout(request, &look)?;
        Ok(Self { request, folder, look, layout })
    }

    /// Shape of a picture's initial noise, `[C, h, w]`.
    pub fn noise_shape(&self) -> Result<[i64; 3]> {
        let factor = self.folder.vae_config(self.request.model.vae.as_deref())?.factor();
        Ok([self.folder.network().latent_channels(), self.look.height / factor, self.look.width / factor])
    }

    /// Determines the files of each side of guidance, and hashes every file.
    pub fn plan(self) -> Result<PlannedJob<'a>> {
        let mut hashes = HashMemory::open(&self.request.cache_dir);
        let negative = NegativeSide::of(&self.request.model, &self.folder, &mut hashes)?;
        let records = plan(self.request, &self.folder, &self.look, &mut hashes)?;
        hashes.save();
        Ok(PlannedJob { job: self, negative, records })
    }
}

/// A job with the records of its pictures.
pub(super) struct PlannedJob<'a> {
    job: Job<'a>,
    negative: Option<NegativeSide>,
    records: Vec<Record>,
}

impl PlannedJob<'_> {
    /// Makes the missing pictures, in a prepared folder.
    pub fn paint(self, progress: &dyn Progress, stop: &Stop) -> Result<Outcome> {
        let Self { job: Job { request, folder, look, layout }, negative, records } = self;
        let mut out = OutFolder::open(&request.out, &records)?;
        let missing: Vec<&Record> = records.iter().filter(|record| !out.has(record)).collect();
        let skipped = records.len() - missing.len();
        if skipped > 0 {
            progress.line(&format!("{skipped} of {} pictures are there already", records.len()));
        }
        if let [first, others @ ..] = &out.damaged[..] {
            let more = if others.is_empty() { String::new() } else { format!(" and {} more", others.len()) };
            progress.line(&format!("note: {first}{more}: cut short or damaged, made again"));
        }
        if !missing.is_empty() {
            say_what_diffusers_does_too(&look, folder.scheduler(), progress);
            let painting = Painting { request, negative, look: &look, progress, stop };
            painting.paint(folder, &missing, &mut out)?;
        }
        let records = out.records_of(&records);
        out.close()?;
        let grid = layout.map(|layout| write_grid(&request.out, layout, &records)).transpose()?;
        Ok(Outcome { painted: records.len() - skipped, skipped, records, grid })
    }
}

fn look(request: &Request, folder: &ModelFolder) -> Result<Look> {
    let sampling =
        request.sampling.resolve(folder.scheduler(), request.model.overrides, folder.family().guidance_scale())?;
    check_request(request)?;
    check_negative_side(request, &sampling.guidance)?;
    let vae = folder.vae_config(request.model.vae.as_deref())?;
    if request.tiling == Tiling::On && vae.tiles().is_none() {
        let (path, size) = (vae.file().path().display(), vae.sample_size);
        return Err(ConfigError(format!(
            "--vae-tiling on: the sample_size of {path} is {size}, which makes no whole tiles"
        ))
        .into());
    }
    let factor = vae.factor();
    let side = folder.network().native_side() * factor;
    let (width, height) = (request.width.unwrap_or(side), request.height.unwrap_or(side));
    check_size(width, height, factor)?;
    check_clip_skip(request.model.overrides.clip_skip, folder)?;
    let (negative_prompt, batch) = (request.negative_prompt.clone(), request.batch.max(1));
    Ok(Look { width, height, sampling, negative_prompt, batch, tiling: request.tiling })
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

/// Refuses a negative network that guidance does not use.
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

/// Warnings about surprising entries of a model's scheduler_config.json.
fn say_what_diffusers_does_too(look: &Look, noise_process: &SchedulerConfig, progress: &dyn Progress) {
    let (scheduler, file) = (look.sampling.scheduler, noise_process.path.display());
    if scheduler == Scheduler::ddim() && ddim::clips_latents(noise_process) {
        progress.line(&format!(
            "note: {file} does not set clip_sample, so DDIM clips the latents as in diffusers; add \"clip_sample\": false if \
             the pictures look flat"
        ));
    }
    if noise_process.rescale_betas_zero_snr && !scheduler.takes_zero_terminal_snr {
        progress
            .line(&format!("note: {file} sets zero terminal SNR, which {} ignores as in diffusers", scheduler.name));
    }
}

/// A request while it is painted.
struct Painting<'a> {
    request: &'a Request,
    negative: Option<NegativeSide>,
    look: &'a Look,
    progress: &'a dyn Progress,
    stop: &'a Stop,
}

impl Painting<'_> {
    fn paint(&self, folder: ModelFolder, records: &[&Record], out: &mut OutFolder) -> Result<()> {
        let (request, negative) = (&self.request.model, self.negative.as_ref());
        let pictures: Vec<Picture> =
            records.iter().map(|record| Picture { prompt: &record.prompt, seed: record.seed }).collect();
        let worn = Worn::read(request, negative, &folder.lora_targets())?;
        let mut prompts = Model::load_prompts(&folder, request, &worn)?;
        self.encode(&mut prompts, &pictures)?;
        let model = Model::load_around(prompts, folder, request, negative, &worn)?;
        model.memory().iter().for_each(|line| self.progress.line(line));
        self.progress.begin("sample", 0, pictures.len() as u64);
        let mut save = |index: usize, Painted { image, tiled }: Painted| {
            let mut record = records[index].clone();
            record.vae_tiling = Some(tiled);
            out.add(&record, &image)
        };
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

fn write_grid(out: &Path, layout: Grid, records: &[Record]) -> Result<PathBuf> {
    let read = |record: &Record| {
        let path = out.join(&record.file);
        let image = image::open(&path).with_context(|| format!("cannot read {} for the grid", path.display()))?;
        Ok(image.to_rgb8())
    };
    let pictures = records.iter().map(read).collect::<Result<Vec<RgbImage>>>()?;
    let path = out.join("grid.png");
    write_png(&path, &grid(layout, &pictures), &[])?;
    Ok(path)
}
