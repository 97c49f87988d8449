//! `diffpref merge`: weight algebra over models and LoRAs.

use super::terminal;
use anyhow::Result;
use clap::Subcommand;
use diffpref::data::cache::default_cache_dir;
use diffpref::progress::Stop;
use diffpref::publish::Format;
use diffpref::publish::merge::{self, AsLora, Loss, Operation, Request, Weighted};
use pipelines::Dtype;
use pipelines::families::Layers;
use serde_json::{Value, json};
use std::path::PathBuf;

const ABOUT: &str = "A model is a folder in the diffusers layout, a single .safetensors file, a hub id org/name, or a UNet folder; \
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
    /// The weighted mean of models, or of LoRAs
    #[command(after_help = SOUP)]
    Soup {
        /// A model and its share; the shares add up to 1, and are equal where none is given. Or LoRAs alone
        #[arg(long, value_name = "MODEL[:SHARE]", required = true)]
        model: Vec<Weighted>,
        #[command(flatten)]
        output: Output,
    },
    /// A model plus weighted differences of others from their base
    #[command(after_help = TASK_VECTOR)]
    TaskVector {
        /// The model that the others were trained from
        #[arg(long, value_name = "MODEL")]
        base: PathBuf,
        /// What the differences are added to [default: the base]
        #[arg(long, value_name = "MODEL")]
        onto: Option<PathBuf>,
        /// A model (or a LoRA of the base) and the weight of its difference [default weight: 1]; may be repeated
        #[arg(long, value_name = "MODEL[:WEIGHT]", required = true)]
        model: Vec<Weighted>,
        #[command(flatten)]
        output: Output,
    },
    /// The negative model of Diffusion-NPO: base + alpha (positive - base) + beta (negative - base)
    #[command(after_help = NPO)]
    Npo {
        /// The model that both sides were trained from
        #[arg(long, value_name = "MODEL")]
        base: PathBuf,
        /// The aligned model, or its LoRA
        #[arg(long, value_name = "MODEL")]
        positive: PathBuf,
        /// The model trained on flipped preferences, or its LoRA
        #[arg(long, value_name = "MODEL")]
        negative: PathBuf,
        #[arg(long, value_name = "NUMBER", default_value_t = 1.0, allow_negative_numbers = true)]
        alpha: f64,
        #[arg(long, value_name = "NUMBER", default_value_t = 1.0, allow_negative_numbers = true)]
        beta: f64,
        /// Write what is added to the base as one LoRA; exact where both sides are LoRAs and no --rank is given
        #[arg(long)]
        as_lora: bool,
        /// The rank of that LoRA: the nearest in the Frobenius norm
        #[arg(long, value_name = "RANK", requires = "as_lora")]
        rank: Option<i64>,
        /// Where that LoRA is: every layer, or the attentions and the text encoders
        #[arg(long, default_value = "all", value_parser = ["all", "attention"], requires = "as_lora")]
        layers: String,
        #[command(flatten)]
        output: Output,
    },
    /// LoRAs merged into a model
    #[command(after_help = LORA)]
    Lora {
        #[arg(long, value_name = "MODEL")]
        base: PathBuf,
        /// A LoRA and how strongly it acts; may be repeated
        #[arg(long, value_name = "FILE[:SCALE]", required = true)]
        lora: Vec<Weighted>,
        #[command(flatten)]
        output: Output,
    },
    /// Several LoRAs as one
    #[command(after_help = JOIN)]
    Join {
        /// The model that they are for; not needed for Stable Diffusion 1, 2 and XL of the usual shape
        #[arg(long, value_name = "MODEL")]
        base: Option<PathBuf>,
        /// A LoRA and how strongly it acts; may be repeated
        #[arg(long, value_name = "FILE[:SCALE]", required = true)]
        lora: Vec<Weighted>,
        /// Cut to this rank, the nearest in the Frobenius norm [default: ranks side by side, exact]
        #[arg(long, value_name = "RANK")]
        rank: Option<i64>,
        #[command(flatten)]
        output: Output,
    },
    /// The difference of two models as a LoRA
    #[command(after_help = EXTRACT)]
    Extract {
        #[arg(long, value_name = "MODEL")]
        base: PathBuf,
        /// The model that was trained from the base
        #[arg(long, value_name = "MODEL")]
        model: PathBuf,
        #[arg(long, value_name = "RANK")]
        rank: i64,
        /// Where the LoRA is: every layer, or the attentions and the text encoders
        #[arg(long, default_value = "all", value_parser = ["all", "attention"])]
        layers: String,
        #[command(flatten)]
        output: Output,
    },
}

#[derive(Debug, clap::Args)]
struct Output {
    /// The folder or file to write; it must not exist
    #[arg(long, value_name = "PATH")]
    out: PathBuf,
    /// What is written [default: a LoRA lora-peft; a model checkpoint where --out ends in .safetensors, else diffusers, unet
    /// for a UNet alone]
    #[arg(long, value_name = "FORMAT", value_parser = ["unet", "diffusers", "checkpoint", "lora-peft", "lora-kohya"])]
    format: Option<String>,
    /// Of the weights; auto keeps the base's own, and writes a LoRA in float32
    #[arg(long, default_value = "auto", value_parser = ["auto", "float32", "float16", "bfloat16"])]
    dtype: String,
    /// The title in the header of a file [default: its name]
    #[arg(long, value_name = "TEXT")]
    title: Option<String>,
    /// Print what was written as one JSON object
    #[arg(long)]
    json: bool,
}

pub fn run(args: Args, stop: &Stop) -> Result<()> {
    let (operation, output) = operation(args.operation);
    let name = operation.name();
    let request = Request {
        operation,
        // clap allows only the names of formats.
        format: output
            .format
            .and_then(|f| Format::NAMES.iter().find(|(_, name)| *name == f).map(|(format, _)| *format)),
        kind: output.dtype.parse().ok().map(Dtype::kind),
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
                json!({"out": out.to_string(), "operation": name, "format": summary.format.name(), "lora": loss})
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
            let lora = as_lora.then(|| AsLora { rank, layers: layers_named(&layers) });
            (Operation::Npo { base, positive, negative, alpha, beta, lora }, output)
        }
        Command::Lora { base, lora, output } => (Operation::Lora { base, loras: lora }, output),
        Command::Join { base, lora, rank, output } => (Operation::Join { base, loras: lora, rank }, output),
        Command::Extract { base, model, rank, layers, output } => {
            let lora = AsLora { rank: Some(rank), layers: layers_named(&layers) };
            (Operation::Extract { base, model, lora }, output)
        }
    }
}

fn layers_named(name: &str) -> Layers {
    if name == "attention" { Layers::Attention } else { Layers::All }
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
