//! `diffpref generate`: pictures from prompts.

use super::model::ModelArgs;
use super::painting::PaintingArgs;
use super::terminal;
use anyhow::Result;
use diffpref::config::ConfigError;
use diffpref::data::cache::default_cache_dir;
use diffpref::generate::{self, ModelRequest, Outcome, Request, read_prompts};
use diffpref::progress::Stop;
use serde_json::json;
use std::path::PathBuf;
use tch::{Device, Kind};

const EXAMPLES: &str = "Examples:
  diffpref generate --model assets/demo-model --prompt \"red apple\" --num-images 4 --grid --out pictures
  diffpref generate --model models/sd15 --scheduler dpmpp_2m --karras --prompts prompts.csv --lora runs/dpo/final/pytorch_lora_weights.safetensors:0.8 --out pictures
  diffpref generate --model models/sd15 --lora aligned.safetensors --negative-lora npo.safetensors --negative-merge 1,1 --prompt \"red apple\" --out pictures";

#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub struct Args {
    #[command(flatten)]
    model: ModelArgs,
    /// A prompt; may be repeated
    #[arg(long, value_name = "TEXT", required_unless_present = "prompts", conflicts_with = "prompts")]
    prompt: Vec<String>,
    /// A file of prompts: .txt (one a line), .csv, .tsv, .jsonl or .parquet (column prompt, caption, text or Prompt)
    #[arg(long, value_name = "FILE")]
    prompts: Option<PathBuf>,
    /// The column of --prompts that holds them
    #[arg(long, value_name = "NAME", requires = "prompts")]
    prompt_column: Option<String>,
    #[command(flatten)]
    painting: PaintingArgs,
    /// Seed of the first picture of every prompt
    #[arg(long, value_name = "N", default_value_t = 0)]
    seed: u64,
    /// Pictures per prompt
    #[arg(long, value_name = "N", default_value_t = 1)]
    num_images: u64,
    /// Pixels [default: the size the model was trained on]
    #[arg(long, allow_negative_numbers = true, value_name = "PIXELS")]
    width: Option<i64>,
    /// Pixels [default: the size the model was trained on]
    #[arg(long, allow_negative_numbers = true, value_name = "PIXELS")]
    height: Option<i64>,
    /// Pictures painted at once
    #[arg(long, value_name = "N", default_value_t = 1)]
    batch: usize,
    /// auto, cpu, cuda or cuda:N
    #[arg(long, default_value = "auto")]
    device: String,
    /// What the networks compute in; auto is float32 on the CPU and bfloat16 on CUDA
    #[arg(long, default_value = "auto", value_parser = ["auto", "float32", "bfloat16", "float16", "float64"])]
    dtype: String,
    /// Also lay all pictures side by side in grid.png
    #[arg(long)]
    grid: bool,
    /// Go on in a folder with pictures: keep those that are equal, make the rest
    #[arg(long)]
    resume: bool,
    /// The folder for the pictures
    #[arg(long, value_name = "DIR")]
    out: PathBuf,
    /// Print what was made as one JSON object
    #[arg(long)]
    json: bool,
}

pub fn run(args: &Args, stop: &Stop) -> Result<()> {
    let progress = terminal::sink(false);
    let outcome = generate::run(&request(args)?, progress.as_ref(), stop)?;
    print(&outcome, &args.out, args.json)
}

fn request(args: &Args) -> Result<Request> {
    let painting = &args.painting;
    let device = device(&args.device)?;
    let kind = kind(&args.dtype, device);
    let prompts = match &args.prompts {
        Some(file) => read_prompts(file, args.prompt_column.as_deref())?,
        None => args.prompt.clone(),
    };
    Ok(Request {
        model: ModelRequest {
            model: args.model.location(),
            unet: painting.unet.clone(),
            vae: painting.vae.clone(),
            loras: painting.lora.clone(),
            negative: painting.negative()?,
            overrides: painting.overrides(),
            device,
            kind,
        },
        prompts,
        negative_prompt: painting.negative_prompt.clone(),
        sampling: painting.sampling(),
        seed: args.seed,
        num_images: args.num_images,
        width: args.width,
        height: args.height,
        batch: args.batch,
        grid: args.grid,
        resume: args.resume,
        out: args.out.clone(),
        cache_dir: default_cache_dir(),
    })
}

fn device(name: &str) -> Result<Device, ConfigError> {
    let count = tch::Cuda::device_count().max(0) as usize;
    let wanted = match name {
        "cpu" => return Ok(Device::Cpu),
        "auto" => return Ok(if count > 0 { Device::Cuda(0) } else { Device::Cpu }),
        "cuda" => Some(0),
        other => other.strip_prefix("cuda:").and_then(|index| index.parse::<usize>().ok()),
    };
    match wanted {
        Some(index) if index < count => Ok(Device::Cuda(index)),
        Some(_) => Err(ConfigError(format!(
            "--device {name}: there are {count} CUDA devices here; `diffpref doctor` says why"
        ))),
        None => Err(ConfigError(format!("--device {name}: expected auto, cpu, cuda or cuda:N"))),
    }
}

fn kind(name: &str, device: Device) -> Kind {
    match name {
        "float64" => Kind::Double,
        "float16" => Kind::Half,
        "bfloat16" => Kind::BFloat16,
        "float32" => Kind::Float,
        _ if device == Device::Cpu => Kind::Float,
        _ => Kind::BFloat16,
    }
}

fn print(outcome: &Outcome, out: &std::path::Path, json: bool) -> Result<()> {
    if json {
        let grid = outcome.grid.as_ref().map(|path| path.display().to_string());
        let report = json!({
            "out": out.display().to_string(),
            "painted": outcome.painted,
            "skipped": outcome.skipped,
            "grid": grid,
            "images": outcome.records,
        });
        return terminal::print(&format!("{report}\n"));
    }
    let pictures = outcome.records.iter().map(|record| out.join(record["file"].as_str().unwrap_or_default()));
    pictures.chain(outcome.grid.clone()).try_for_each(|file| terminal::print(&format!("{}\n", file.display())))
}
