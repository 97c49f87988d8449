//! `diffpref eval`

use super::{choices, terminal};
use anyhow::Result;
use clap::builder::TypedValueParser;
use diffpref::denoising::{NamedModel, models_of_run};
use diffpref::eval::implicit::{PairsRequest, TrainedOn, judge};
use diffpref::eval::{Request, Teachers, evaluate};
use diffpref::keys::ConfigError;
use diffpref::machine::disk::default_cache_dir;
use diffpref::metrics::evaluation::{Compared, Evaluation, Group, Interval, SignTest};
use diffpref::metrics::implicit::PairEvaluation;
use diffpref::metrics::per_cent;
use diffpref::painting::{LoraFile, Merge, NegativeRequest};
use diffpref::progress::Stop;
use diffpref::report;
use diffpref::runs;
use diffpref::scorers::{Measure, ScorerSpec};
use diffpref::settings::Settings;
use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::str::FromStr;
use tch::{Device, Kind};

const EXAMPLE: &str = "Examples:
  diffpref eval --run runs/quickstart --prompts assets/testbed/names.jsonl --scorer background --scorer nearest_drawing=assets/testbed
  diffpref eval --run runs/quickstart --pairs assets/testbed/pairs-drawings.jsonl
  diffpref eval --model base=models/sd15 --model tuned=models/sd15+style.safetensors --prompts prompts.txt --scorer compressibility --out compared

`diffpref scorers` lists the scorers.";

#[derive(clap::Args)]
#[command(after_help = EXAMPLE)]
pub struct Args {
    /// A finished run: the model it started from against the one it ended with; its report gets the figures
    #[arg(long, value_name = "RUN", required_unless_present = "model", conflicts_with = "model")]
    run: Option<PathBuf>,
    /// A model, with LoRAs behind it; repeat it, the first is compared with the others
    #[arg(long, value_name = "NAME=PATH[+LORA[:SCALE]]")]
    model: Vec<NamedModel>,
    /// LoRA applied to the negative prediction of that model's guidance; repeatable
    #[arg(long, value_name = "NAME=FILE[:SCALE]", conflicts_with = "run")]
    negative_lora: Vec<Of<LoraFile>>,
    /// Weights of the positive and the negative offset in that negative side [default: 0,1; NPO publishes 1,1]
    #[arg(long, value_name = "NAME=ALPHA,BETA", conflicts_with = "run")]
    negative_merge: Vec<Of<Merge>>,
    /// File of prompts: .txt, .csv, .tsv, .json, .jsonl or .parquet; rows of .jsonl may carry `held_out`
    #[arg(long, value_name = "FILE", required_unless_present = "pairs", requires = "scorer")]
    prompts: Option<PathBuf>,
    /// Column of the prompts in --prompts [default: prompt, caption, text or prompts, in capitals or not]
    #[arg(long, value_name = "NAME")]
    prompt_column: Option<String>,
    /// Scorer of the pictures, with its files; repeatable
    #[arg(long, value_name = "NAME[=PATH]", required_unless_present = "pairs", requires = "prompts")]
    scorer: Vec<ScorerSpec>,
    /// Pairs of pictures: implicit accuracy, ranking accuracy and CHES without generation
    #[arg(long, value_name = "FILE")]
    pairs: Option<PathBuf>,
    /// Shared noise levels per pair, at least 4
    #[arg(long, value_name = "N", default_value_t = 4, requires = "pairs")]
    draws: u64,
    /// beta of the logits of --pairs
    #[arg(long, value_name = "BETA", default_value_t = 5000.0, requires = "pairs")]
    beta: f64,
    /// Share of voters for a winner, for the ideal ranking accuracy of --pairs
    #[arg(long, value_name = "SHARE", default_value_t = 0.75, requires = "pairs")]
    vote_share: f64,
    /// Pictures per held-out prompt, or per prompt if none is held out
    #[arg(long, value_name = "N", default_value_t = 8)]
    seeds: u64,
    /// Pictures per prompt that is not held out, if others are
    #[arg(long, value_name = "N", default_value_t = 3)]
    other_seeds: u64,
    #[arg(long, hide = true, value_parser = Gone("--scorer style=DIR --scorer content=DIR"))]
    judge: Option<String>,
    #[arg(long, hide = true, value_parser = Gone("--scorer nearest_pixels=DIR --scorer nearest_latents=DIR, DIR with names.jsonl and drawings/"))]
    drawings: Option<String>,
    #[arg(long, hide = true, value_parser = Gone("--other-seeds N"))]
    content_seeds: Option<String>,
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
    #[arg(long, default_value = "auto", value_parser = choices::device)]
    device: Device,
    /// Where pictures and figures go [default: RUN/eval]
    #[arg(long, value_name = "DIR", required_unless_present = "run")]
    out: Option<PathBuf>,
    /// Print the figures as one JSON object
    #[arg(long)]
    json: bool,
}

/// An option of earlier versions: its value is refused with the new form.
#[derive(Clone)]
struct Gone(&'static str);

impl TypedValueParser for Gone {
    type Value = String;

    fn parse_ref(&self, command: &clap::Command, _: Option<&clap::Arg>, _: &OsStr) -> Result<String, clap::Error> {
        let text = format!("this option is gone: give {}\n", self.0);
        Err(clap::Error::raw(clap::error::ErrorKind::UnknownArgument, text).with_cmd(command))
    }
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
    if let Some(config) = &config {
        tch::set_num_threads(config.train.threads as i32);
    }
    // clap requires --out without --run.
    let out = args.out.clone().or_else(|| args.run.as_ref().map(|dir| dir.join("eval"))).unwrap_or_default();
    let on_pairs = match &args.pairs {
        Some(pairs) => {
            let request = pairs_request(args, pairs, models.clone(), config.as_ref(), out.clone());
            Some(judge(&request, progress.as_ref(), stop)?)
        }
        None => None,
    };
    let on_prompts = match &args.prompts {
        Some(prompts) => {
            let teachers = config.as_ref().map(|config| Teachers::of(config, progress.as_ref())).transpose()?;
            let request = request(args, prompts, models, config, teachers.unwrap_or_default(), out.clone());
            Some(evaluate(&request, progress.as_ref(), stop)?)
        }
        None => None,
    };
    let page = write_report(args, &out, on_prompts.as_ref(), on_pairs.as_ref())?;
    if let (Some(dir), Some(_)) = (&args.run, &on_prompts) {
        runs::evaluated(dir, progress.as_ref());
    }
    let text = match (args.json, &on_prompts, &on_pairs) {
        (true, Some(evaluation), None) => format!("{}\n", serde_json::to_string(evaluation)?),
        (true, None, Some(pairs)) => format!("{}\n", serde_json::to_string(pairs)?),
        (true, evaluation, pairs) => format!("{}\n", serde_json::json!({"evaluation": evaluation, "pairs": pairs})),
        (false, evaluation, pairs) => {
            let parts = [evaluation.as_ref().map(in_words), pairs.as_ref().map(pairs_in_words)];
            format!("{}\n{}\n", parts.into_iter().flatten().collect::<Vec<_>>().join("\n"), page.display())
        }
    };
    terminal::print(&text)
}

/// Writes the report. What this call did not measure is that of an earlier one in the same folder.
fn write_report(
    args: &Args,
    out: &Path,
    on_prompts: Option<&Evaluation>,
    on_pairs: Option<&PairEvaluation>,
) -> Result<PathBuf> {
    let earlier = on_prompts.is_none().then(|| Evaluation::read_if_any(out)).transpose()?.flatten();
    let earlier_pairs = on_pairs.is_none().then(|| PairEvaluation::read(out)).transpose()?.flatten();
    let pictures = on_prompts.or(earlier.as_ref());
    let evaluations = report::Evaluations { pictures, pairs: on_pairs.or(earlier_pairs.as_ref()) };
    match &args.run {
        Some(dir) => {
            report::render(dir, evaluations)?;
            Ok(dir.join("report.html"))
        }
        None => {
            report::render_evaluations(out, evaluations)?;
            Ok(out.join("report.html"))
        }
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

/// Data type of the networks of an evaluation.
fn kind(device: Device) -> Kind {
    if device == Device::Cpu { Kind::Float } else { Kind::BFloat16 }
}

fn request(
    args: &Args,
    prompts: &Path,
    models: Vec<NamedModel>,
    config: Option<Settings>,
    teachers: Teachers,
    out: PathBuf,
) -> Request {
    Request {
        models,
        prompts: prompts.to_path_buf(),
        prompt_column: args.prompt_column.clone(),
        scorers: args.scorer.clone(),
        teachers,
        seeds: args.seeds,
        other_seeds: args.other_seeds,
        steps: args.steps,
        guidance_scale: args.guidance_scale.or(config.as_ref().map(|c| c.sample.guidance_scale)),
        resolution: config.as_ref().map(|c| c.data.resolution),
        device: args.device,
        kind: kind(args.device),
        batch: args.batch.max(1),
        cache_dir: config.map_or_else(default_cache_dir, |c| c.data.cache_dir),
        out,
        pictures: None,
    }
}

fn pairs_request(
    args: &Args,
    pairs: &Path,
    models: Vec<NamedModel>,
    config: Option<&Settings>,
    out: PathBuf,
) -> PairsRequest {
    let trained_on = config.and_then(|config| TrainedOn::of(config, pairs));
    let cores = std::thread::available_parallelism().map_or(1, |n| n.get());
    PairsRequest {
        models,
        pairs: pairs.to_path_buf(),
        trained_on,
        draws: args.draws,
        beta: args.beta,
        vote_share: args.vote_share,
        resolution: config.map(|c| c.data.resolution),
        device: args.device,
        kind: kind(args.device),
        workers: config.map_or(cores, |c| c.data.workers),
        out,
        cache_dir: config.map_or_else(default_cache_dir, |c| c.data.cache_dir.clone()),
    }
}

fn pairs_in_words(on_pairs: &PairEvaluation) -> String {
    let mut text = format!(
        "{} pairs of {} prompts at {} noise levels each, beta {}; 95 % intervals over prompts\n\
         |u_ref| < 2, so that training can turn their ranking: {}\n",
        on_pairs.pairs,
        on_pairs.prompts,
        on_pairs.draws,
        on_pairs.beta,
        per_cent(on_pairs.turnable)
    );
    for model in &on_pairs.models {
        text += &format!("\n{}\n", model.name);
        for (what, value) in model.in_words(on_pairs) {
            text += &format!("  {what:<48} {value}\n");
        }
    }
    text
}

fn in_words(evaluation: &Evaluation) -> String {
    let mut text =
        "95 % intervals over prompts, differences paired; p: sign test over prompts, Holm-corrected\n".to_string();
    for warning in &evaluation.warnings {
        text += &format!("warning: {warning}\n");
    }
    for scored in &evaluation.scorers {
        text += &format!("\n{}: {}\n", scored.name, scored.about);
        for measured in &scored.measures {
            for group in &evaluation.groups {
                let compared = measured.groups.get(&group.name);
                text += &compared.map_or(String::new(), |c| measure_in_words(&measured.measure, group, c, evaluation));
            }
        }
        let known = scored.accuracy.iter();
        let known: Vec<String> =
            known.map(|(kind, share)| format!("{} {:.1} %", kind.replace('_', " "), share * 100.0)).collect();
        if !known.is_empty() {
            text += &format!("  right on known pictures: {}\n", known.join(", "));
        }
    }
    let diverse = evaluation.models.iter().filter_map(|m| Some(format!("{} {:.3}", m.name, m.diversity?)));
    let diverse: Vec<String> = diverse.collect();
    if !diverse.is_empty() {
        text += &format!("\ndiversity of the pictures of a prompt: {}\n", diverse.join(", "));
    }
    text
}

fn measure_in_words(measure: &Measure, group: &Group, compared: &Compared, evaluation: &Evaluation) -> String {
    let unit = if measure.unit.is_empty() { String::new() } else { format!(" ({})", measure.unit) };
    let (title, of) = (measure.title(), group.title());
    let mut text = format!("  {title}{unit}, {of} prompts ({} with {} pictures each)\n", group.prompts, group.seeds);
    for (index, (model, Interval { mean, lo, hi })) in evaluation.models.iter().zip(&compared.models).enumerate() {
        let interval = format!("{:>8}  [{}, {}]", measure.written(*mean), measure.written(*lo), measure.written(*hi));
        let against = |list: &[Interval]| index.checked_sub(1).and_then(|i| list.get(i).copied());
        let difference = against(&compared.differences).map(|d| measure.difference_written(d.mean, d.lo, d.hi));
        let wins = against(&compared.win_rates).map(|w| format!("wins {:.1} %", w.mean * 100.0));
        let test = index.checked_sub(1).and_then(|i| compared.sign_tests.get(i));
        let test = test.map(SignTest::in_words);
        let third = compared.best_third.as_ref().and_then(|third| against(&third.differences));
        let third = third.map(|d| format!("best third {}", d.points()));
        let beside: String =
            difference.into_iter().chain(wins).chain(third).chain(test).map(|part| format!("   {part}")).collect();
        text += &format!("    {:<16} {interval}{beside}\n", model.name);
    }
    if let Some(leaders) = compared.leaders {
        text += &format!("    {}\n", leaders.in_words(&evaluation.models));
    }
    text
}
