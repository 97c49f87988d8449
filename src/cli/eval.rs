//! `diffpref eval`

use super::terminal;
use anyhow::Result;
use diffpref::data::cache::default_cache_dir;
use diffpref::data::labelled_by::{Labeller, Taught, labellers};
use diffpref::eval::figures::{Evaluation, Interval, Measure};
use diffpref::eval::{NamedModel, Request, evaluate, models_of_run};
use diffpref::machine::hashes;
use diffpref::painting::{LoraFile, Merge, NegativeRequest};
use diffpref::progress::{Progress, Stop};
use diffpref::report;
use diffpref::reward;
use diffpref::settings::{Config, ConfigError, ScorerConfig};
use serde_json::Value;
use std::path::{Path, PathBuf};
use std::str::FromStr;
use tch::{Device, Kind};

const EXAMPLE: &str = "Examples:
  diffpref eval --run runs/quickstart --prompts assets/emoji/names.jsonl --judge assets/judge --drawings assets/emoji/drawings
  diffpref eval --model base=models/sd15 --model tuned=models/sd15+style.safetensors --prompts names.jsonl --judge judge --out compared";

#[derive(clap::Args)]
#[command(after_help = EXAMPLE)]
pub struct Args {
    /// A finished run: the model it started from against the one it ended with; its report gets the figures
    #[arg(long, value_name = "RUN", required_unless_present = "model", conflicts_with = "model")]
    run: Option<PathBuf>,
    /// A model, with LoRAs behind it; repeat it, the first is compared with the others
    #[arg(long, value_name = "NAME=PATH[+LORA[:SCALE]]")]
    model: Vec<NamedModel>,
    /// A LoRA that the negative side of that model's guidance wears; may be repeated
    #[arg(long, value_name = "NAME=FILE[:SCALE]", conflicts_with = "run")]
    negative_lora: Vec<Of<LoraFile>>,
    /// What that negative side takes of both offsets, as in `diffpref generate`; NPO publishes 1,1 [default: 0,1]
    #[arg(long, value_name = "NAME=ALPHA,BETA", conflicts_with = "run")]
    negative_merge: Vec<Of<Merge>>,
    /// The names to paint: .jsonl rows with prompt, slug, held_out; or .txt, .csv, .tsv, .parquet with prompts
    #[arg(long, value_name = "FILE")]
    prompts: PathBuf,
    /// A trained judge: a folder with config.json and model.safetensors
    #[arg(long, value_name = "DIR")]
    judge: Option<PathBuf>,
    /// Drawings for the judges without training: flat/SLUG.png and shaded/SLUG.png
    #[arg(long, value_name = "DIR")]
    drawings: Option<PathBuf>,
    /// Pictures of each held-out name, for the flat share
    #[arg(long, value_name = "N", default_value_t = 8)]
    seeds: u64,
    /// Pictures of each name, for content accuracy
    #[arg(long, value_name = "N", default_value_t = 3)]
    content_seeds: u64,
    /// DDIM steps
    #[arg(long, value_name = "N", default_value_t = 10)]
    steps: usize,
    /// Classifier-free guidance; 1 switches it off [default: sample.guidance_scale of the run, else the first model's: 7.5, SDXL 5]
    #[arg(long, value_name = "SCALE")]
    guidance_scale: Option<f64>,
    /// Pictures painted at once
    #[arg(long, value_name = "N", default_value_t = 16)]
    batch: usize,
    /// auto, cpu, cuda or cuda:N
    #[arg(long, default_value = "auto")]
    device: String,
    /// Where pictures and figures go [default: RUN/eval]
    #[arg(long, value_name = "DIR", required_unless_present = "run")]
    out: Option<PathBuf>,
    /// Print the figures as one JSON object
    #[arg(long)]
    json: bool,
}

/// An option of one of the models.
#[derive(Debug, Clone)]
struct Of<T> {
    model: String,
    value: T,
}

impl<T: FromStr<Err = String>> FromStr for Of<T> {
    type Err = String;

    /// `NAME=VALUE`
    fn from_str(text: &str) -> Result<Self, String> {
        let (model, value) = text
            .split_once('=')
            .ok_or_else(|| format!("{text:?}: expected NAME=VALUE, where a --model has that name"))?;
        Ok(Self { model: model.into(), value: value.parse()? })
    }
}

pub fn run(args: &Args, stop: &Stop) -> Result<()> {
    let progress = terminal::sink(false);
    let (models, config) = match &args.run {
        Some(dir) => models_of_run(dir).map(|(models, config)| (models, Some(config)))?,
        None => (with_negative_sides(args)?, None),
    };
    let labellers = config.as_ref().map(|config| labellers_of(config, progress.as_ref())).transpose()?;
    let request = request(args, models, config, labellers.unwrap_or_default())?;
    let evaluation = evaluate(&request, progress.as_ref(), stop)?;
    let page = match &args.run {
        Some(dir) => {
            report::render(dir, Some(&evaluation))?;
            dir.join("report.html")
        }
        None => {
            report::render_evaluation(&request.out, &evaluation)?;
            request.out.join("report.html")
        }
    };
    match args.json {
        true => terminal::print(&format!("{}\n", Value::Object(evaluation.figures()))),
        false => terminal::print(&in_words(&evaluation, &page)),
    }
}

/// The models of `--model`, each with the negative side that the options give it.
fn with_negative_sides(args: &Args) -> Result<Vec<NamedModel>, ConfigError> {
    let loras = args.negative_lora.iter().map(|of| ("--negative-lora", &of.model));
    let merges = args.negative_merge.iter().map(|of| ("--negative-merge", &of.model));
    for (option, name) in loras.chain(merges) {
        if !args.model.iter().any(|model| model.name == *name) {
            let known: Vec<&str> = args.model.iter().map(|model| model.name.as_str()).collect();
            return Err(ConfigError(format!(
                "{option} {name}=..: no --model has this name; there are {}",
                known.join(", ")
            )));
        }
    }
    let with_side = |model: &NamedModel| {
        let loras = args.negative_lora.iter().filter(|of| of.model == model.name).map(|of| of.value.clone()).collect();
        let merges: Vec<Merge> =
            args.negative_merge.iter().filter(|of| of.model == model.name).map(|of| of.value).collect();
        if merges.len() > 1 {
            return Err(ConfigError(format!(
                "--negative-merge {}=..: given {} times; give it once",
                model.name,
                merges.len()
            )));
        }
        Ok(NamedModel { negative: NegativeRequest::of(None, loras, merges.first().copied())?, ..model.clone() })
    };
    args.model.iter().map(with_side).collect()
}

/// The judges whose word a run was trained on: of a run that sampled, its scorers; else those that labelled its data, as far
/// as the data is still there to say so.
fn labellers_of(config: &Config, progress: &dyn Progress) -> Result<Vec<Labeller>> {
    if let Some(reward) = &config.reward {
        return raters(&reward.scorers);
    }
    let path = &config.data.path;
    if path.as_os_str().is_empty() {
        return Ok(Vec::new()); // trained on what it made of noise
    }
    if path.exists() {
        return labellers(path, &config.data.labels);
    }
    progress.line(&format!(
        "the data of the run is no longer at {}: whether a judge of this evaluation labelled it cannot be said",
        path.display()
    ));
    Ok(Vec::new())
}

/// The scorers whose weights are still there.
fn raters(scorers: &[ScorerConfig]) -> Result<Vec<Labeller>> {
    let mut found = Vec::new();
    for scorer in scorers {
        if let Some(file) = reward::weights(scorer)?.filter(|file| file.is_file()) {
            let weights_sha256 = hashes::of_file(&file)?;
            found.push(Labeller { judge: scorer.name.clone(), weights_sha256, taught: Taught::Rewards });
        }
    }
    Ok(found)
}

fn request(args: &Args, models: Vec<NamedModel>, config: Option<Config>, labellers: Vec<Labeller>) -> Result<Request> {
    let device = device(&args.device)?;
    let kind = if device == Device::Cpu { Kind::Float } else { Kind::BFloat16 };
    // clap asks for --out where there is no --run.
    let out = args.out.clone().or_else(|| args.run.as_ref().map(|dir| dir.join("eval"))).unwrap_or_default();
    if let Some(config) = &config {
        tch::set_num_threads(config.train.threads as i32);
    }
    Ok(Request {
        models,
        prompts: args.prompts.clone(),
        judge: args.judge.clone(),
        drawings: args.drawings.clone(),
        labellers,
        seeds: args.seeds,
        content_seeds: args.content_seeds,
        steps: args.steps,
        guidance_scale: args.guidance_scale.or(config.as_ref().map(|c| c.sample.guidance_scale)),
        resolution: config.as_ref().map(|c| c.data.resolution),
        device,
        kind,
        batch: args.batch.max(1),
        cache_dir: config.map_or_else(default_cache_dir, |c| c.data.cache_dir),
        out,
    })
}

fn device(name: &str) -> Result<Device, ConfigError> {
    let count = tch::Cuda::device_count().max(0) as usize;
    let index = match name {
        "auto" if count > 0 => Some(0),
        "auto" | "cpu" => return Ok(Device::Cpu),
        "cuda" => Some(0),
        other => other.strip_prefix("cuda:").and_then(|index| index.parse().ok()),
    };
    match index {
        Some(index) if index < count => Ok(Device::Cuda(index)),
        Some(_) => Err(ConfigError(format!(
            "--device {name}: there are {count} CUDA devices here; `diffpref doctor` says why"
        ))),
        None => Err(ConfigError(format!("--device {name}: expected auto, cpu, cuda or cuda:N"))),
    }
}

fn in_words(evaluation: &Evaluation, page: &Path) -> String {
    let mut text = format!(
        "{} names, {} of them held out of training; 95 % intervals over names, differences paired\n",
        evaluation.names, evaluation.held_out_names
    );
    for judged in &evaluation.judges {
        text += &format!("\n{}\n", judged.about);
        if let Some(warning) = &judged.warning {
            text += &format!("  warning: {warning}\n");
        }
        text += &measure_in_words("flat share, held-out names", &judged.flat_share, evaluation);
        text += &measure_in_words("content accuracy, all names", &judged.content_accuracy, evaluation);
        let known =
            judged.accuracy.iter().map(|(what, share)| format!("{} {:.1} %", what.replace('_', " "), share * 100.0));
        let known: Vec<String> = known.collect();
        if !known.is_empty() {
            text += &format!("  right on known pictures: {}\n", known.join(", "));
        }
    }
    text + &format!("\n{}\n", page.display())
}

fn measure_in_words(title: &str, measure: &Measure, evaluation: &Evaluation) -> String {
    let mut text = format!("  {title}\n");
    let interval = |i: &Interval| format!("{:6.1} %  [{:5.1}, {:5.1}]", i.mean * 100.0, i.lo * 100.0, i.hi * 100.0);
    for (index, (model, value)) in evaluation.models.iter().zip(&measure.models).enumerate() {
        let difference = index.checked_sub(1).and_then(|i| measure.differences.get(i));
        let difference = difference
            .map(|d| format!("   {:+.1} points [{:+.1}, {:+.1}]", d.mean * 100.0, d.lo * 100.0, d.hi * 100.0));
        text += &format!("    {:<16} {}{}\n", model.name, interval(value), difference.unwrap_or_default());
    }
    text
}
