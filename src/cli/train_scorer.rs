//! `diffpref train-scorer`

use super::terminal;
use super::train::ResumeArg;
use anyhow::Result;
use diffpref::progress::Stop;
use diffpref::scorer_training::{self, Finished, Host, listed};
use std::path::PathBuf;

#[derive(Debug, clap::Args)]
#[command(after_help = "Example:\n  diffpref train-scorer configs/scorer-testbed-pickscore.toml --set train.seed=1")]
pub struct Args {
    /// Configuration of the training, a TOML file
    config: PathBuf,
    /// Value of a key in place of the file's; repeatable
    #[arg(long = "set", value_name = "TABLE.KEY=VALUE")]
    sets: Vec<String>,
    /// Continue from the newest checkpoint; auto: start where there is nothing to resume
    #[arg(long, num_args = 0..=1, require_equals = true, default_missing_value = "yes", value_enum)]
    resume: Option<ResumeArg>,
    /// Plan of the training on stdout, after all checks; nothing is written
    #[arg(long)]
    dry_run: bool,
    /// Metrics on stdout, one JSON object per line
    #[arg(long)]
    json: bool,
}

pub fn run(args: &Args, stop: &Stop) -> Result<()> {
    let progress = terminal::sink(args.json);
    let settings = scorer_training::load(&args.config, &args.sets)?;
    tch::set_num_threads(settings.train.threads as i32);
    if args.dry_run {
        let plan = scorer_training::dry_run(settings)?;
        return match args.json {
            true => terminal::print(&format!("{}\n", serde_json::to_string_pretty(&plan)?)),
            false => terminal::print(&plan.text()),
        };
    }
    let host = Host { progress: progress.as_ref(), stop };
    let finished = scorer_training::train(settings, ResumeArg::mode(args.resume), &host)?;
    match args.json {
        true => Ok(()),
        false => terminal::print(&in_words(&finished)),
    }
}

fn in_words(finished: &Finished) -> String {
    let Finished { out, step, figures, already } = finished;
    let mut text = match already {
        true => format!("{}: already at step {step}\n", out.display()),
        false => format!("finished at step {step}: {0}/final, {0}/report.html\n", out.display()),
    };
    for (name, value) in listed(figures) {
        text += &format!("  {name:<34} {value}\n");
    }
    for (user, accuracy) in &figures.by_user {
        text += &format!("  user {user:<29} {:.1} %\n", accuracy * 100.0);
    }
    for (a, row) in &figures.dimensions {
        for (b, accuracy) in row {
            text += &format!("  {:<34} {:.1} %\n", format!("{a} on labels of {b}"), accuracy * 100.0);
        }
    }
    text
}
