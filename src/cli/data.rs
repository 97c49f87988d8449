//! `diffpref data`: inspect, validate, convert, cache.

use super::{choices, terminal};
use anyhow::Result;
use clap::Subcommand;
use diffpref::data::cache::CacheDtype;
use diffpref::data::items::{Format, ItemKind};
use diffpref::datasets::{
    self, CacheRequest, ConvertRequest, InspectRequest, Share, Target, ValidateRequest, Validation, Views,
};
use diffpref::denoising::NamedModel;
use diffpref::machine::disk::default_cache_dir;
use diffpref::machine::files::write_atomically;
use diffpref::progress::Stop;
use pipelines::hub::Location;
use std::path::PathBuf;
use tch::Device;

const EXAMPLES: &str = "Examples:
  diffpref data inspect assets/emoji/pairs.jsonl --page sheet.html
  diffpref data validate 'pickapic/data/train-*.parquet' --out problems.json
  diffpref data convert pairs-in-folders --to webdataset --out shards
  diffpref data cache 'pickapic/data/train-*.parquet' --model models/sd15 --flip";

/// Problems that are printed.
const SHOWN: usize = 20;

#[derive(clap::Args)]
#[command(after_help = EXAMPLES)]
pub struct Args {
    #[command(subcommand)]
    action: Action,
}

#[derive(Subcommand)]
enum Action {
    /// Count rows, prompts, images, users, generators; find pairs that say nothing; draw a contact sheet
    Inspect(Inspect),
    /// Check every row and every image; exit code 1 if anything is wrong
    Validate(Validate),
    /// Write the data in another format
    Convert(Convert),
    /// Encode images and prompts ahead of trainings; resumable
    Cache(Cache),
}

#[derive(clap::Args)]
struct Source {
    /// A data file, a folder with one data set, or a pattern of files such as 'data/train-*.parquet'
    #[arg(value_name = "DATA")]
    path: PathBuf,
    /// Format of the data [default: recognised]
    #[arg(long, value_name = "FORMAT", value_parser = choices::named::<Format>())]
    format: Option<Format>,
    /// Threads that read images [default: one per core]
    #[arg(long, value_name = "N")]
    workers: Option<usize>,
}

impl Source {
    fn workers(&self) -> usize {
        self.workers.unwrap_or_else(|| std::thread::available_parallelism().map_or(1, |n| n.get())).max(1)
    }
}

#[derive(clap::Args)]
struct Inspect {
    #[command(flatten)]
    source: Source,
    /// Read the images of the first N pairs only; 0: none [default: all images]
    #[arg(long, value_name = "N")]
    read_pairs: Option<usize>,
    /// Contact sheet of random rows
    #[arg(long, value_name = "FILE.html")]
    page: Option<PathBuf>,
    /// Rows on the contact sheet
    #[arg(long, value_name = "N", default_value_t = 24)]
    rows: usize,
    /// Seed of the choice of rows
    #[arg(long, default_value_t = 0)]
    seed: u64,
    /// Model whose ranking accuracy on the pairs is measured, as NAME=PATH
    #[arg(long, value_name = "NAME=PATH")]
    model: Option<NamedModel>,
    /// Pixels per side for --model [default: the model's own]
    #[arg(long, value_name = "PIXELS", requires = "model")]
    resolution: Option<i64>,
    /// auto, cpu, cuda or cuda:N
    #[arg(long, default_value = "auto", value_parser = choices::device)]
    device: Device,
    /// Print one JSON object
    #[arg(long)]
    json: bool,
}

#[derive(clap::Args)]
struct Validate {
    #[command(flatten)]
    source: Source,
    /// Write all problems as JSON
    #[arg(long, value_name = "FILE.json")]
    out: Option<PathBuf>,
    /// Print one JSON object
    #[arg(long)]
    json: bool,
}

#[derive(clap::Args)]
struct Convert {
    #[command(flatten)]
    source: Source,
    /// Written format
    #[arg(long, value_name = "FORMAT", value_parser = choices::named::<Target>())]
    to: Target,
    /// Write rankings of k images as pairs instead of lists
    #[arg(long)]
    pairs: bool,
    /// Leave rows with an unreadable image out instead of stopping
    #[arg(long)]
    skip_unreadable: bool,
    /// A new or empty folder
    #[arg(long, value_name = "DIR")]
    out: PathBuf,
    /// Print one JSON object
    #[arg(long)]
    json: bool,
}

#[derive(clap::Args)]
struct Cache {
    #[command(flatten)]
    source: Source,
    /// Model folder, single file or hub id
    #[arg(long)]
    model: PathBuf,
    /// VAE that replaces the model's
    #[arg(long, value_name = "PATH")]
    vae: Option<PathBuf>,
    /// As model.clip_skip
    #[arg(long, value_name = "N", default_value_t = 0)]
    clip_skip: i64,
    /// Pixels per side [default: the model's own]
    #[arg(long, value_name = "PIXELS")]
    resolution: Option<i64>,
    /// Encode mirrored images too
    #[arg(long)]
    flip: bool,
    /// Random crops besides the centre, as data.crops; 0: the centre only
    #[arg(long, value_name = "N", default_value_t = 0)]
    crops: i64,
    /// Part of the work for several processes, as 1/4, 2/4 ..
    #[arg(long, value_name = "I/N", default_value = "1/1")]
    share: Share,
    /// As data.cache_dtype
    #[arg(long, default_value = "float32", value_parser = choices::named::<CacheDtype>())]
    dtype: CacheDtype,
    /// As data.cache_dir [default: ~/.cache/diffpref]
    #[arg(long, value_name = "DIR")]
    cache_dir: Option<PathBuf>,
    /// auto, cpu, cuda or cuda:N
    #[arg(long, default_value = "auto", value_parser = choices::device)]
    device: Device,
    /// Print one JSON object
    #[arg(long)]
    json: bool,
}

pub fn run(args: &Args, stop: &Stop) -> Result<()> {
    match &args.action {
        Action::Inspect(args) => inspect(args, stop),
        Action::Validate(args) => validate(args, stop),
        Action::Convert(args) => convert(args, stop),
        Action::Cache(args) => cache(args, stop),
    }
}

fn inspect(args: &Inspect, stop: &Stop) -> Result<()> {
    let request = InspectRequest {
        path: args.source.path.clone(),
        format: args.source.format,
        read_pairs: args.read_pairs,
        shown: if args.page.is_some() { args.rows } else { 0 },
        seed: args.seed,
        page: args.page.clone(),
        model: args.model.clone(),
        resolution: args.resolution,
        device: args.device,
        workers: args.source.workers(),
        cache_dir: default_cache_dir(),
    };
    let inspection = datasets::inspect(&request, terminal::sink(false).as_ref(), stop)?;
    match args.json {
        true => terminal::print(&format!("{}\n", serde_json::to_string(&inspection)?)),
        false => terminal::print(&inspection.text()),
    }
}

fn validate(args: &Validate, stop: &Stop) -> Result<()> {
    let request =
        ValidateRequest { path: args.source.path.clone(), format: args.source.format, workers: args.source.workers() };
    let validation = datasets::validate(&request, terminal::sink(false).as_ref(), stop)?;
    if let Some(out) = &args.out {
        write_atomically(out, &serde_json::to_vec_pretty(&validation)?)?;
    }
    match args.json {
        true => terminal::print(&format!("{}\n", serde_json::to_string(&validation)?))?,
        false => terminal::print(&in_words(&validation))?,
    }
    match validation.problems.len() {
        0 => Ok(()),
        n => Err(anyhow::anyhow!("{}: {n} problems", validation.path.display())),
    }
}

fn in_words(validation: &Validation) -> String {
    let Validation { rows, unlabelled, images, counts, problems, .. } = validation;
    let mut text = format!("{} ({}): {rows} rows, {images} images", validation.path.display(), validation.format);
    if *unlabelled > 0 {
        text += &format!(", {unlabelled} rows without a label");
    }
    text += "\n";
    counts.iter().for_each(|(kind, n)| text += &format!("  {n} x {kind}\n"));
    for problem in problems.iter().take(SHOWN) {
        text += &format!("{}: {}: {}\n", problem.place, problem.kind, problem.reason);
    }
    if problems.len() > SHOWN {
        text += &format!("and {} more; --out FILE.json writes all\n", problems.len() - SHOWN);
    }
    text
}

fn convert(args: &Convert, stop: &Stop) -> Result<()> {
    let request = ConvertRequest {
        path: args.source.path.clone(),
        format: args.source.format,
        to: args.to,
        rankings: if args.pairs { ItemKind::Pairs } else { ItemKind::Lists },
        skip_unreadable: args.skip_unreadable,
        out: args.out.clone(),
    };
    let converted = datasets::convert(&request, terminal::sink(false).as_ref(), stop)?;
    for (place, reason) in converted.left_out.iter().take(SHOWN) {
        terminal::say(&format!("left out: {place}: {reason}"));
    }
    if args.json {
        return terminal::print(&format!("{}\n", serde_json::to_string(&converted)?));
    }
    terminal::print(&format!(
        "{} rows from {} to {} in {}; {} left out, {} without a label\n",
        converted.rows,
        converted.from,
        converted.to,
        converted.out.display(),
        converted.left_out.len(),
        converted.unlabelled
    ))
}

fn cache(args: &Cache, stop: &Stop) -> Result<()> {
    let request = CacheRequest {
        path: args.source.path.clone(),
        format: args.source.format,
        model: Location::of(&args.model),
        vae: args.vae.clone(),
        clip_skip: args.clip_skip,
        resolution: args.resolution,
        views: Views { flip: args.flip, crops: args.crops },
        share: args.share,
        device: args.device,
        dtype: args.dtype,
        cache_dir: args.cache_dir.clone().unwrap_or_else(default_cache_dir),
        workers: args.source.workers(),
    };
    let encoded = datasets::encode_ahead(&request, terminal::sink(false).as_ref(), stop)?;
    for (image, reason) in encoded.unreadable.iter().take(SHOWN) {
        terminal::say(&format!("unreadable: {image}: {reason}"));
    }
    if args.json {
        return terminal::print(&format!("{}\n", serde_json::to_string(&encoded)?));
    }
    terminal::print(&format!(
        "{} views of {} images and {} prompts at {} px in {}; {} images unreadable\n",
        encoded.views,
        encoded.images,
        encoded.prompts,
        encoded.resolution,
        encoded.cache_dir.display(),
        encoded.unreadable.len()
    ))
}
