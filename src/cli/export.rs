//! `diffpref export`: a model or a LoRA in another format.

use super::terminal;
use anyhow::Result;
use diffpref::painting::LoraFile;
use diffpref::publish::Format;
use diffpref::publish::export::{self, Request};
use pipelines::Dtype;
use pipelines::hub::Location;
use pipelines::schedulers::PredictionType;
use serde_json::json;
use std::path::PathBuf;

const EXAMPLES: &str = "Examples:
  diffpref export --lora runs/dpo/final/pytorch_lora_weights.safetensors --model models/sd15 --format lora-kohya --out style.safetensors
  diffpref export --model runs/full/final --format checkpoint --dtype float16 --out aligned.safetensors
  diffpref export --model checkpoint.safetensors --lora style.safetensors:0.8 --format diffusers --out models/merged";

#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub struct Args {
    /// The model: a folder in the diffusers layout, a single .safetensors file, or a hub id org/name. A LoRA of Stable
    /// Diffusion 1, 2 or XL is written without it
    #[arg(long, value_name = "MODEL")]
    model: Option<PathBuf>,
    /// Branch, tag or commit of a hub id [default: main]
    #[arg(long, value_name = "REVISION", requires = "model")]
    revision: Option<String>,
    /// The variant of the weight files, for example fp16 [default: plain files, fp16 where there are none]
    #[arg(long, value_name = "NAME", requires = "model")]
    variant: Option<String>,
    /// A UNet folder that replaces the model's own
    #[arg(long, value_name = "DIR", requires = "model")]
    unet: Option<PathBuf>,
    /// A VAE folder or file that replaces the model's own
    #[arg(long, value_name = "PATH", requires = "model")]
    vae: Option<PathBuf>,
    /// A LoRA and how strongly it acts; may be repeated. Merged into a model, or joined to one LoRA
    #[arg(long, value_name = "FILE[:SCALE]")]
    lora: Vec<LoraFile>,
    /// What is written: a folder for diffusers, one file for A1111, ComfyUI and kohya, or a LoRA for the one or the others
    #[arg(long, value_name = "FORMAT", value_parser = ["diffusers", "checkpoint", "lora-peft", "lora-kohya"])]
    format: String,
    /// Of the weights; auto keeps a model's own, and writes a LoRA in float32
    #[arg(long, default_value = "auto", value_parser = ["auto", "float32", "float16", "bfloat16"])]
    dtype: String,
    /// What the network predicts, where the model does not say it rightly
    #[arg(long, value_name = "TYPE", value_parser = ["epsilon", "v_prediction"])]
    prediction_type: Option<String>,
    /// Whether the noise process ends in noise alone, where the model does not say it rightly
    #[arg(long, value_name = "BOOL", requires = "model")]
    zero_terminal_snr: Option<bool>,
    /// The title in the header of a file [default: its name]
    #[arg(long, value_name = "TEXT")]
    title: Option<String>,
    /// The folder or file to write; it must not exist
    #[arg(long, value_name = "PATH")]
    out: PathBuf,
    /// Print what was written as one JSON object
    #[arg(long)]
    json: bool,
}

pub fn run(args: &Args) -> Result<()> {
    let progress = terminal::sink(false);
    export::run(&request(args), progress.as_ref())?;
    let out = args.out.display();
    match args.json {
        true => terminal::print(&format!("{}\n", json!({"out": out.to_string(), "format": args.format}))),
        false => terminal::print(&format!("{out}\n")),
    }
}

fn request(args: &Args) -> Request {
    let location = |path: &PathBuf| Location {
        path: path.clone(),
        revision: args.revision.clone(),
        variant: args.variant.clone(),
    };
    // clap allows only the names of formats.
    let format = Format::NAMES.iter().find(|(_, name)| *name == args.format).map_or(Format::Diffusers, |(f, _)| *f);
    Request {
        model: args.model.as_ref().map(location),
        unet: args.unet.clone(),
        vae: args.vae.clone(),
        loras: args.lora.clone(),
        format,
        kind: args.dtype.parse().ok().map(Dtype::kind),
        prediction_type: args.prediction_type.as_deref().and_then(PredictionType::named),
        zero_terminal_snr: args.zero_terminal_snr,
        title: args.title.clone(),
        out: args.out.clone(),
    }
}
