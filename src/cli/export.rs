//! `diffpref export`: a model or a LoRA in another format.

use super::choices::{Prediction, StoredDtype};
use super::terminal;
use anyhow::Result;
use diffpref::painting::LoraFile;
use diffpref::publish::Format;
use diffpref::publish::export::{self, Request};
use pipelines::hub::Location;
use serde_json::json;
use std::path::PathBuf;

const EXAMPLES: &str = "Examples:
  diffpref export --lora runs/dpo/final/pytorch_lora_weights.safetensors --model models/sd15 --format lora-kohya --out style.safetensors
  diffpref export --model runs/full/final --format checkpoint --dtype float16 --out aligned.safetensors
  diffpref export --model checkpoint.safetensors --lora style.safetensors:0.8 --format diffusers --out models/merged";

#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub struct Args {
    /// Model: a folder in the diffusers layout, a single .safetensors file, or a hub id org/name. Not needed for a LoRA of
    /// Stable Diffusion 1, 2 or XL
    #[arg(long, value_name = "MODEL")]
    model: Option<PathBuf>,
    /// Branch, tag or commit of a hub id [default: main]
    #[arg(long, value_name = "REVISION", requires = "model")]
    revision: Option<String>,
    /// Variant of the weight files, for example fp16 [default: plain files, fp16 where there are none]
    #[arg(long, value_name = "NAME", requires = "model")]
    variant: Option<String>,
    /// UNet folder instead of the model's own
    #[arg(long, value_name = "DIR", requires = "model")]
    unet: Option<PathBuf>,
    /// VAE folder or file instead of the model's own
    #[arg(long, value_name = "PATH", requires = "model")]
    vae: Option<PathBuf>,
    /// LoRA and its scale [default scale: 1]; repeatable. Merged into a model, or joined to one LoRA
    #[arg(long, value_name = "FILE[:SCALE]")]
    lora: Vec<LoraFile>,
    /// Format: diffusers (a folder), checkpoint (one file for A1111, ComfyUI and kohya), lora-peft or lora-kohya
    #[arg(long, value_name = "FORMAT", value_enum, hide_possible_values = true)]
    format: Format,
    /// Data type of the written weights; auto: that of the model, float32 for a LoRA
    #[arg(long, default_value = "auto", value_enum)]
    dtype: StoredDtype,
    /// Prediction type; auto: as the model's files say
    #[arg(long, value_name = "TYPE", default_value = "auto", value_enum)]
    prediction_type: Prediction,
    /// Whether the noise schedule ends at pure noise [default: as the model's files say]
    #[arg(long, value_name = "BOOL", requires = "model")]
    zero_terminal_snr: Option<bool>,
    /// Title in the header of a file [default: its name]
    #[arg(long, value_name = "TEXT")]
    title: Option<String>,
    /// Folder or file to write; must not exist
    #[arg(long, value_name = "PATH")]
    out: PathBuf,
    /// Result as one JSON object on stdout
    #[arg(long)]
    json: bool,
}

pub fn run(args: &Args) -> Result<()> {
    let progress = terminal::sink(false);
    export::run(&request(args), progress.as_ref())?;
    let out = args.out.display();
    match args.json {
        true => terminal::print(&format!("{}\n", json!({"out": out.to_string(), "format": args.format.to_string()}))),
        false => terminal::print(&format!("{out}\n")),
    }
}

fn request(args: &Args) -> Request {
    let location = |path: &PathBuf| Location {
        path: path.clone(),
        revision: args.revision.clone(),
        variant: args.variant.clone(),
    };
    Request {
        model: args.model.as_ref().map(location),
        unet: args.unet.clone(),
        vae: args.vae.clone(),
        loras: args.lora.clone(),
        format: args.format,
        kind: args.dtype.kind(),
        prediction_type: args.prediction_type.value(),
        zero_terminal_snr: args.zero_terminal_snr,
        title: args.title.clone(),
        out: args.out.clone(),
    }
}
