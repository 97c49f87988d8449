//! `diffpref merge`: weight algebra over models and LoRAs.

use super::choices::{LoraLayers, StoredDtype};
use super::terminal;
use anyhow::Result;
use clap::Subcommand;
use diffpref::machine::disk::default_cache_dir;
use diffpref::progress::Stop;
use diffpref::publish::Format;
use diffpref::publish::merge::{self, AsLora, Loss, Operation, Request, Weighted};
use serde_json::{Value, json};
use std::path::PathBuf;

const ABOUT: &str = "A model is a folder in the diffusers layout, a single .safetensors file, a hub id org/name, or a UNet folder. \
                     LoRAs are read in every naming that generate reads. UNets and text encoders are added in float64 and \
                     rounded once; the VAE is the base's.";
const SOUP: &str = "Examples:
  diffpref merge soup --model runs/a/final:0.5 --model runs/b/final:0.5 --out models/soup
  diffpref merge soup --model a.safetensors --model b.safetensors --model c.safetensors --out lora-soup.safetensors";
const TASK_VECTOR: &str = "Examples:
  diffpref merge task-vector --base models/sd15 --model runs/aesthetics/final:0.7 --model runs/alignment/final:0.5 --out models/both
  diffpref merge task-vector --base models/sd15 --onto photo.safetensors --model runs/dpo/final/unet --out photo-dpo.safetensors
  diffpref merge task-vector --base models/sd15 --model runs/dpo/final:1 --model runs/npo/final:-1 --out models/preference-vector";
const NPO: &str = "Examples:
  diffpref merge npo --base models/sd15 --positive runs/dpo/final --negative runs/npo/final --out models/negative
  diffpref merge npo --base models/sd15 --positive dpo.safetensors --negative npo.safetensors --as-lora --format lora-kohya --out negative.safetensors";
const LORA: &str = "Examples:
  diffpref merge lora --base models/sd15 --lora style.safetensors:0.8 --lora runs/dpo/final --out models/merged
  diffpref merge lora --base models/sd15/unet --lora style.safetensors --dtype float16 --out unet-merged";
const JOIN: &str = "Examples:
  diffpref merge join --lora a.safetensors:0.7 --lora b.safetensors:-0.3 --out both.safetensors
  diffpref merge join --lora a.safetensors --lora b.safetensors --rank 16 --format lora-kohya --out both16.safetensors";
const EXTRACT: &str = "Examples:
  diffpref merge extract --base models/sd15 --model runs/full/final --rank 64 --out full64.safetensors
  diffpref merge extract --base sd15.safetensors --model fine.safetensors --rank 32 --layers attention --format lora-kohya --out fine32.safetensors";

/// One example of the command itself; its operations have their own.
const EXAMPLE: &str = "Example:
  diffpref merge lora --base models/sd15 --lora style.safetensors:0.8 --out models/merged";

#[derive(Debug, clap::Args)]
#[command(long_about = format!("Add models and LoRAs. {ABOUT}"), subcommand_required = true, arg_required_else_help = true)]
#[command(after_help = EXAMPLE)]
pub struct Args {
    #[command(subcommand)]
    operation: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Weighted mean of models, or of LoRAs
    #[command(after_help = SOUP)]
    Soup {
        /// Model and its share; shares add up to 1 [default: equal shares]; repeatable. Or LoRAs alone
        #[arg(long, value_name = "MODEL[:SHARE]", required = true)]
        model: Vec<Weighted>,
        #[command(flatten)]
        output: Output,
    },
    /// Model plus weighted differences of other models from their base
    #[command(after_help = TASK_VECTOR)]
    TaskVector {
        /// Model that the others were trained from
        #[arg(long, value_name = "MODEL")]
        base: PathBuf,
        /// Model that the differences are added to [default: the base]
        #[arg(long, value_name = "MODEL")]
        onto: Option<PathBuf>,
        /// Model, or LoRA of the base, and the weight of its difference [default weight: 1]; repeatable
        #[arg(long, value_name = "MODEL[:WEIGHT]", required = true)]
        model: Vec<Weighted>,
        #[command(flatten)]
        output: Output,
    },
    /// Negative model of Diffusion-NPO: base + alpha (positive - base) + beta (negative - base)
    #[command(after_help = NPO)]
    Npo {
        /// Model that both sides were trained from
        #[arg(long, value_name = "MODEL")]
        base: PathBuf,
        /// Aligned model, or its LoRA
        #[arg(long, value_name = "MODEL")]
        positive: PathBuf,
        /// Model trained on flipped preferences, or its LoRA
        #[arg(long, value_name = "MODEL")]
        negative: PathBuf,
        /// Weight of the positive difference
        #[arg(long, value_name = "NUMBER", default_value_t = 1.0, allow_negative_numbers = true)]
        alpha: f64,
        /// Weight of the negative difference
        #[arg(long, value_name = "NUMBER", default_value_t = 1.0, allow_negative_numbers = true)]
        beta: f64,
        /// Difference from the base as one LoRA; exact where both sides are LoRAs and no --rank is given
        #[arg(long)]
        as_lora: bool,
        /// Rank of that LoRA, the nearest in the Frobenius norm [default: ranks side by side]
        #[arg(long, value_name = "RANK", requires = "as_lora")]
        rank: Option<i64>,
        /// Layers of that LoRA: all, or attention (attentions of the UNet, and the text encoders)
        #[arg(long, default_value = "all", value_enum, requires = "as_lora")]
        layers: LoraLayers,
        #[command(flatten)]
        output: Output,
    },
    /// LoRAs merged into a model
    #[command(after_help = LORA)]
    Lora {
        /// Model that the LoRAs are merged into
        #[arg(long, value_name = "MODEL")]
        base: PathBuf,
        /// LoRA and its scale [default scale: 1]; repeatable
        #[arg(long, value_name = "FILE[:SCALE]", required = true)]
        lora: Vec<Weighted>,
        #[command(flatten)]
        output: Output,
    },
    /// Several LoRAs as one
    #[command(after_help = JOIN)]
    Join {
        /// Model that they are for; not needed for Stable Diffusion 1, 2 and XL of the usual shape
        #[arg(long, value_name = "MODEL")]
        base: Option<PathBuf>,
        /// LoRA and its scale [default scale: 1]; repeatable
        #[arg(long, value_name = "FILE[:SCALE]", required = true)]
        lora: Vec<Weighted>,
        /// Rank of the result, the nearest in the Frobenius norm [default: ranks side by side, exact]
        #[arg(long, value_name = "RANK")]
        rank: Option<i64>,
        #[command(flatten)]
        output: Output,
    },
    /// Difference of two models as a LoRA
    #[command(after_help = EXTRACT)]
    Extract {
        /// Model that training started from
        #[arg(long, value_name = "MODEL")]
        base: PathBuf,
        /// Model trained from the base
        #[arg(long, value_name = "MODEL")]
        model: PathBuf,
        /// Rank of the LoRA
        #[arg(long, value_name = "RANK")]
        rank: i64,
        /// Layers of the LoRA: all, or attention (attentions of the UNet, and the text encoders)
        #[arg(long, default_value = "all", value_enum)]
        layers: LoraLayers,
        #[command(flatten)]
        output: Output,
    },
}

#[derive(Debug, clap::Args)]
struct Output {
    /// Folder or file to write; must not exist
    #[arg(long, value_name = "PATH")]
    out: PathBuf,
    /// Format: unet, diffusers, checkpoint, lora-peft or lora-kohya [default: lora-peft for a LoRA; for a model checkpoint
    /// where --out ends in .safetensors, else diffusers; unet for a UNet alone]
    #[arg(long, value_name = "FORMAT", value_enum, hide_possible_values = true)]
    format: Option<Format>,
    /// Data type of the written weights; auto: that of the base, float32 for a LoRA
    #[arg(long, default_value = "auto", value_enum)]
    dtype: StoredDtype,
    /// Title in the header of a file [default: its name]
    #[arg(long, value_name = "TEXT")]
    title: Option<String>,
    /// Result as one JSON object on stdout
    #[arg(long)]
    json: bool,
}

pub fn run(args: Args, stop: &Stop) -> Result<()> {
    let (operation, output) = operation(args.operation);
    let name = operation.name();
    let request = Request {
        operation,
        format: output.format,
        kind: output.dtype.kind(),
        title: output.title,
        out: output.out,
        cache_dir: default_cache_dir(),
    };
    let progress = terminal::sink(false);
    let summary = merge::run(&request, stop, progress.as_ref())?;
    let out = request.out.display();
    if let Some(loss) = &summary.loss {
        say_loss(loss);
    }
    match output.json {
        true => {
            let loss = summary.loss.as_ref().map(loss_json);
            println!(
                "{}",
                json!({"out": out.to_string(), "operation": name, "format": summary.format.to_string(), "lora": loss})
            );
        }
        false => println!("{out}"),
    }
    Ok(())
}

fn operation(command: Command) -> (Operation, Output) {
    match command {
        Command::Soup { model, output } => (Operation::Soup { models: model }, output),
        Command::TaskVector { base, onto, model, output } => {
            (Operation::TaskVector { base, onto, models: model }, output)
        }
        Command::Npo { base, positive, negative, alpha, beta, as_lora, rank, layers, output } => {
            let lora = as_lora.then(|| AsLora { rank, layers: layers.value() });
            (Operation::Npo { base, positive, negative, alpha, beta, lora }, output)
        }
        Command::Lora { base, lora, output } => (Operation::Lora { base, loras: lora }, output),
        Command::Join { base, lora, rank, output } => (Operation::Join { base, loras: lora, rank }, output),
        Command::Extract { base, model, rank, layers, output } => {
            let lora = AsLora { rank: Some(rank), layers: layers.value() };
            (Operation::Extract { base, model, lora }, output)
        }
    }
}

fn say_loss(loss: &Loss) {
    if let Some((worst, error)) = loss.worst() {
        let (n, mean) = (loss.modules.len(), loss.mean());
        eprintln!("relative Frobenius error over {n} modules: worst {error:.3e} ({worst}), mean {mean:.3e}");
    }
    if !loss.left_out.is_empty() {
        let (n, share) = (loss.left_out.len(), 100.0 * loss.left_out_share);
        let first = loss.left_out.first().map(String::as_str).unwrap_or_default();
        eprintln!(
            "{n} tensors that differ have no place in the LoRA ({share:.3} % of the difference's norm): {first}, .."
        );
    }
}

fn loss_json(loss: &Loss) -> Value {
    let modules: serde_json::Map<_, _> =
        loss.modules.iter().map(|(name, truncation)| (name.clone(), json!(truncation.relative()))).collect();
    json!({
        "modules": modules,
        "worst": loss.worst().map(|(name, error)| json!({"module": name, "error": error})),
        "mean": loss.mean(),
        "left_out": loss.left_out,
        "left_out_share": loss.left_out_share,
    })
}
