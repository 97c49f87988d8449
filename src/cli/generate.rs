//! `diffpref generate`: pictures from prompts.

use super::compare::SideArgs;
use super::model::ModelArgs;
use super::painting::PaintingArgs;
use super::{choices, terminal};
use anyhow::{Context, Result};
use diffpref::data::prompts;
use diffpref::generate::{self, Compared, Outcome, Request, Side};
use diffpref::keys::ConfigError;
use diffpref::machine::disk::default_cache_dir;
use diffpref::painting::ModelRequest;
use diffpref::progress::Stop;
use serde_json::{Value, json};
use std::path::{Path, PathBuf};
use tch::Device;

const EXAMPLES: &str = "Examples:
  diffpref generate --model assets/demo-model --prompt \"red apple\" --num-images 4 --grid --out pictures
  diffpref generate --model models/sd15 --scheduler dpmpp_2m --karras --prompts prompts.csv --lora runs/dpo/final/pytorch_lora_weights.safetensors:0.8 --out pictures
  diffpref generate --model models/sd15 --lora aligned.safetensors --negative-lora npo.safetensors --negative-merge 1,1 --prompt \"red apple\" --out pictures
  diffpref generate --model models/sd15 --prompts prompts.csv --compare base= tuned=\"--lora runs/dpo/final\" old=models/other --out compared";

#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub struct Args {
    #[command(flatten)]
    model: ModelArgs,
    /// Prompt; repeatable
    #[arg(long, value_name = "TEXT", required_unless_present = "prompts", conflicts_with = "prompts")]
    prompt: Vec<String>,
    /// File of prompts: .txt (one per line), .csv, .tsv, .json, .jsonl or .parquet (column prompt, caption, text or prompts)
    #[arg(long, value_name = "FILE")]
    prompts: Option<PathBuf>,
    /// Column of --prompts that holds the prompts
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
    /// Width in pixels [default: the size the model was trained on]
    #[arg(long, allow_negative_numbers = true, value_name = "PIXELS")]
    width: Option<i64>,
    /// Height in pixels [default: the size the model was trained on]
    #[arg(long, allow_negative_numbers = true, value_name = "PIXELS")]
    height: Option<i64>,
    /// Pictures painted at once
    #[arg(long, value_name = "N", default_value_t = 1)]
    batch: usize,
    /// Device: auto (CUDA where there is one), cpu, cuda or cuda:N
    #[arg(long, default_value = "auto", value_parser = choices::device)]
    device: Device,
    /// Two or more models or option sets, painted from the same noise into compare.png and compare.html
    #[arg(long, value_name = "NAME=\"OPTIONS\"|[NAME=]MODEL", num_args = 1..)]
    compare: Vec<SideArgs>,
    /// All pictures side by side in grid.png too
    #[arg(long)]
    grid: bool,
    /// Continue in a folder with pictures: keep those with an equal record, paint the rest
    #[arg(long)]
    resume: bool,
    /// Output folder
    #[arg(long, value_name = "DIR")]
    out: PathBuf,
    /// Result as one JSON object on stdout
    #[arg(long)]
    json: bool,
}

pub fn run(args: &Args, stop: &Stop) -> Result<()> {
    let progress = terminal::sink(false);
    if args.compare.is_empty() {
        let request = args.request(&args.model, &args.painting, args.prompts()?, args.out.clone())?;
        let outcome = generate::run(&request, progress.as_ref(), stop)?;
        return print(&outcome, &args.out, args.json);
    }
    let sides = args.sides()?;
    let compared = generate::compare(&sides, &args.out, args.resume, progress.as_ref(), stop)?;
    print_compared(&sides, &compared, &args.out, args.json)
}

impl Args {
    fn prompts(&self) -> Result<Vec<String>> {
        match &self.prompts {
            Some(file) => prompts::read(file, self.prompt_column.as_deref()),
            None => Ok(self.prompt.clone()),
        }
    }

    fn request(
        &self,
        model: &ModelArgs,
        painting: &PaintingArgs,
        prompts: Vec<String>,
        out: PathBuf,
    ) -> Result<Request> {
        let device = self.device;
        Ok(Request {
            model: ModelRequest {
                model: model.location()?,
                unet: painting.unet.clone(),
                vae: painting.vae.clone(),
                loras: painting.lora.clone(),
                negative: painting.negative()?,
                overrides: painting.overrides(),
                device,
                kind: painting.kind(device),
            },
            prompts,
            negative_prompt: painting.negative_prompt.clone(),
            sampling: painting.sampling(),
            seed: self.seed,
            num_images: self.num_images,
            width: self.width,
            height: self.height,
            batch: self.batch,
            tiling: painting.tiling(),
            grid: self.grid,
            resume: self.resume,
            out,
            cache_dir: default_cache_dir(),
        })
    }

    /// The sides of a comparison: the options of each over the common ones.
    fn sides(&self) -> Result<Vec<Side>> {
        if self.compare.len() < 2 {
            return Err(ConfigError("--compare: expected at least two sides, for example --compare A B".into()).into());
        }
        let prompts = self.prompts()?;
        let mut sides: Vec<Side> = Vec::new();
        for SideArgs { name, model, painting } in &self.compare {
            // Some file systems ignore case.
            if sides.iter().any(|side| side.name.to_lowercase() == name.to_lowercase()) {
                let problem =
                    format!("--compare: two sides are called {name}; give them names, for example A=MODEL B=MODEL");
                return Err(ConfigError(problem).into());
            }
            let (model, painting) = (model.over(&self.model), painting.over(&self.painting));
            let request = self.request(&model, &painting, prompts.clone(), self.out.join(name));
            let request = request.with_context(|| format!("--compare {name}"))?;
            sides.push(Side { name: name.clone(), request });
        }
        Ok(sides)
    }
}

fn print(outcome: &Outcome, out: &Path, json: bool) -> Result<()> {
    match json {
        true => terminal::print(&format!("{}\n", report(outcome, out))),
        false => files(outcome, out).chain(outcome.grid.clone()).try_for_each(print_path),
    }
}

fn report(outcome: &Outcome, out: &Path) -> Value {
    json!({
        "out": out.display().to_string(),
        "painted": outcome.painted,
        "skipped": outcome.skipped,
        "grid": outcome.grid.as_ref().map(|path| path.display().to_string()),
        "images": outcome.records,
    })
}

fn print_compared(sides: &[Side], compared: &Compared, out: &Path, json: bool) -> Result<()> {
    if !json {
        return [&compared.sheet, &compared.page].into_iter().cloned().try_for_each(print_path);
    }
    let reports = sides.iter().zip(&compared.outcomes).map(|(side, outcome)| {
        let mut report = report(outcome, &side.request.out);
        report["name"] = side.name.as_str().into();
        report
    });
    let report = json!({
        "out": out.display().to_string(),
        "sheet": compared.sheet.display().to_string(),
        "page": compared.page.display().to_string(),
        "sides": reports.collect::<Vec<_>>(),
    });
    terminal::print(&format!("{report}\n"))
}

fn files<'a>(outcome: &'a Outcome, out: &'a Path) -> impl Iterator<Item = PathBuf> + 'a {
    outcome.records.iter().map(|record| out.join(&record.file))
}

fn print_path(path: PathBuf) -> Result<()> {
    terminal::print(&format!("{}\n", path.display()))
}
