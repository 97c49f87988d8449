//! `diffpref score`: numbers of pictures by scorers.

use super::{choices, terminal};
use anyhow::Result;
use diffpref::machine::disk::default_cache_dir;
use diffpref::progress::Stop;
use diffpref::score::{Request, Summary, score};
use diffpref::scorers::ScorerSpec;
use std::path::PathBuf;
use tch::{Device, Kind};

const EXAMPLES: &str = "Examples:
  diffpref score pictures --scorer nima=assets/scorers/nima --scorer brisque=assets/scorers/brisque --report --out scored
  diffpref score pictures/images.jsonl --scorer \"command=python3 judge.py\" --out scored";

#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub struct Args {
    /// Folder of pictures (prompt of NAME.png in NAME.txt, or images.jsonl of `generate`), or a .jsonl, .csv, .tsv or .parquet file
    #[arg(value_name = "INPUT")]
    input: PathBuf,
    /// Scorer, with its files where it has any; repeatable; `diffpref scorers` lists them
    #[arg(long, value_name = "NAME[=PATH]", required_unless_present = "compare")]
    scorer: Vec<ScorerSpec>,
    /// Scorer that compares every two pictures of a prompt in both orders; repeatable
    #[arg(long, value_name = "NAME=PATH")]
    compare: Vec<ScorerSpec>,
    /// Column of the pictures [default: picture, image, file or path]
    #[arg(long, value_name = "NAME")]
    picture_column: Option<String>,
    /// Column of the prompts [default: prompt, caption, text or Prompt]
    #[arg(long, value_name = "NAME")]
    prompt_column: Option<String>,
    /// Pictures decoded and rated at once
    #[arg(long, value_name = "N", default_value_t = 32)]
    batch: usize,
    /// Largest share of pictures that may be unreadable, 0 to 1
    #[arg(long, value_name = "SHARE", default_value_t = 0.01)]
    max_bad_fraction: f64,
    /// Write report.html: histograms, agreement, best and worst pictures
    #[arg(long)]
    report: bool,
    /// Write scores.parquet beside scores.jsonl
    #[arg(long)]
    parquet: bool,
    /// auto, cpu, cuda or cuda:N
    #[arg(long, default_value = "auto", value_parser = choices::device)]
    device: Device,
    /// Folder of scores.jsonl, scores.json and report.html
    #[arg(long, value_name = "DIR")]
    out: PathBuf,
    /// Print scores.json
    #[arg(long)]
    json: bool,
}

pub fn run(args: &Args, stop: &Stop) -> Result<()> {
    let progress = terminal::sink(false);
    let request = Request {
        input: args.input.clone(),
        picture_column: args.picture_column.clone(),
        prompt_column: args.prompt_column.clone(),
        scorers: args.scorer.clone(),
        judges: args.compare.clone(),
        device: args.device,
        kind: if args.device == Device::Cpu { Kind::Float } else { Kind::BFloat16 },
        batch: args.batch.max(1),
        max_bad_fraction: args.max_bad_fraction,
        report: args.report,
        parquet: args.parquet,
        out: args.out.clone(),
        cache_dir: default_cache_dir(),
    };
    let summary = score(&request, progress.as_ref(), stop)?;
    match args.json {
        true => terminal::print(&format!("{}\n", serde_json::to_string(&summary)?)),
        false => terminal::print(&in_words(&summary, args)),
    }
}

fn in_words(summary: &Summary, args: &Args) -> String {
    let mut text = format!("{} pictures, {} prompts, {} rows\n", summary.pictures, summary.prompts, summary.rows);
    if summary.repeated > 0 {
        text += &format!("{} rows repeat a picture and prompt and are left out\n", summary.repeated);
    }
    for unreadable in &summary.unreadable {
        text += &format!("left out: {}: {}\n", unreadable.picture.display(), unreadable.reason);
    }
    for scorer in &summary.scorers {
        let speed = scorer.pictures_per_s.map_or(String::new(), |speed| format!(", {speed:.1} pictures/s"));
        text += &match &scorer.comparisons {
            None => format!("\n{}: {} rated now{speed}\n", scorer.name, scorer.rated),
            Some(comparisons) => {
                let off = comparisons.order_inconsistency.unwrap_or_default();
                format!("\n{}: {} compared now, order inconsistency {off:.3}\n", scorer.name, comparisons.made)
            }
        };
        for column in &scorer.columns {
            text += &format!(
                "  {:<18} mean {:.4}, std {:.4}, {:.4} to {:.4}\n",
                column.measure.name, column.mean, column.std, column.min, column.max
            );
        }
    }
    if !summary.agreement.is_empty() {
        text += "\nagreement, higher is better: Pearson, tau-b, tau-b within prompts\n";
    }
    for agreement in &summary.agreement {
        let number = |number: Option<f64>| number.map_or("    -".to_string(), |number| format!("{number:5.2}"));
        let [pearson, tau, within] = [agreement.pearson, agreement.tau_b, agreement.tau_b_within].map(number);
        text += &format!("  {pearson} {tau} {within}  {} and {}\n", agreement.a, agreement.b);
    }
    let file = if args.report { "report.html" } else { "scores.jsonl" };
    text + &format!("\n{}\n", args.out.join(file).display())
}
