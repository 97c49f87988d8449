//! `diffpref sweep`

use super::{child, terminal};
use anyhow::{Context, Result, bail};
use diffpref::keys::ConfigError;
use diffpref::machine::bytes;
use diffpref::progress::{Progress, Stop};
use diffpref::sweep::{self, Answer, Estimate, Folder, Ledger};
use std::path::PathBuf;
use std::process::{Command, Stdio};

const EXAMPLES: &str = "Examples:
  diffpref sweep configs/sweeps/dpo-beta-rate.toml
  diffpref sweep configs/sweeps/dpo-beta-rate.toml --dry-run
  diffpref sweep configs/sweeps/dpo-beta-rate.toml --jobs 2
  diffpref sweep configs/sweeps/dpo-beta-rate.toml --trial $SLURM_ARRAY_TASK_ID

A sweep that was stopped or killed continues where it was when the same command is given again.";

#[derive(clap::Args)]
#[command(after_help = EXAMPLES)]
pub struct Args {
    /// The sweep: base configuration, axes, metric; a TOML file
    sweep: PathBuf,
    /// Trials with their settings, estimated time and disk; nothing is written
    #[arg(long)]
    dry_run: bool,
    /// Processes that work at once; several GPUs are shared out among them
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u64).range(1..=256))]
    jobs: u64,
    /// Number of the only trial to run, as --dry-run lists it; for a cluster's own scheduler
    #[arg(long, value_name = "N", conflicts_with = "jobs")]
    trial: Option<usize>,
    /// Try failed trials again
    #[arg(long)]
    retry_failed: bool,
    /// Compute the answer of the finished trials; nothing is trained
    #[arg(long, conflicts_with_all = ["trial", "jobs", "dry_run", "retry_failed"])]
    answer: bool,
    /// The answer on stdout as one JSON object
    #[arg(long)]
    json: bool,
}

pub fn run(args: &Args, stop: &Stop) -> Result<()> {
    let progress = terminal::sink(false);
    let mut folder = Folder::read(&args.sweep)?;
    if args.dry_run {
        return dry_run(&folder, args.json, progress.as_ref());
    }
    if let Some(number) = args.trial.filter(|number| folder.plan.trial(*number).is_none()) {
        let count = folder.plan.trials.len();
        return Err(ConfigError(format!("--trial {number}: the sweep has {count} trials; --dry-run lists them")).into());
    }
    // One trial of many: the others run elsewhere, and nobody waits for a lock.
    let _lock = if args.trial.is_none() { Some(folder.lock()?) } else { None };
    let ledger = folder.prepare(&args.sweep, &mut |line| progress.line(&line))?;
    if args.retry_failed {
        progress.line(&format!("{} failed parts are tried again", ledger.retry_failed()?));
    }
    if args.answer {
        return answer(&folder, &ledger, args.json);
    }
    if args.jobs > 1 {
        workers(&folder, args.jobs, stop)?;
        return answer(&folder, &ledger, args.json);
    }
    let done = sweep::work(&folder, ledger, args.trial, progress.as_ref(), stop)?;
    match args.trial {
        Some(number) => {
            progress.line(&format!("trial {number}: {} parts finished, {} failed", done.finished, done.failed));
            if done.failed > 0 {
                bail!("trial {number} failed; its reason is above");
            }
            Ok(())
        }
        None => {
            let (ledger, _) = Ledger::open(&folder.path, &mut |line| progress.line(&line))?;
            answer(&folder, &ledger, args.json)
        }
    }
}

fn answer(folder: &Folder, ledger: &Ledger, json: bool) -> Result<()> {
    let answer: Answer = sweep::write(folder, &ledger.entries()?)?;
    match json {
        true => terminal::print(&format!("{}\n", serde_json::to_string(&answer)?)),
        false => terminal::print(&sweep::in_words(folder, &answer)),
    }
}

fn dry_run(folder: &Folder, json: bool, progress: &dyn Progress) -> Result<()> {
    let entries = match folder.path.join(sweep::DATABASE).is_file() {
        true => Ledger::open(&folder.path, &mut |line| progress.line(&line))?.0.entries()?,
        false => sweep::Entries::new(),
    };
    let estimate = sweep::estimate(folder, &entries, progress)?;
    if json {
        return terminal::print(&format!("{}\n", serde_json::to_string_pretty(&estimate)?));
    }
    terminal::print(&format!("{}{}", sweep::listed(folder), estimated(folder, &estimate)))
}

fn estimated(folder: &Folder, estimate: &Estimate) -> String {
    let Estimate { trials, trainings, shared, evaluations, seconds, mib, refused } = estimate;
    let mut text = format!(
        "\n{trials} trials: {trainings} trainings ({shared} shared), {evaluations} evaluations at most; the start model is painted once per setting\n\
         about {:.0} minutes on one process and {} of disk in {}\n",
        seconds / 60.0,
        bytes::in_words((mib * f64::from(1 << 20)) as u64),
        folder.path.display()
    );
    for (trial, reason) in refused {
        text += &format!("trial {trial} and others of its method will fail: {reason}\n");
    }
    text
}

/// Runs worker processes until nothing is left. Cards are shared out in turn.
fn workers(folder: &Folder, jobs: u64, stop: &Stop) -> Result<()> {
    let program = std::env::current_exe().context("cannot find this program's own file")?;
    let cards = cards();
    let mut children = Vec::new();
    for job in 0..jobs as usize {
        let mut command = Command::new(&program);
        command.arg("sweep-worker").arg(&folder.path).stdin(Stdio::null()).stdout(Stdio::null());
        if !cards.is_empty() {
            command.env("CUDA_VISIBLE_DEVICES", &cards[job % cards.len()]);
        }
        children.push(child::bound(&mut command).spawn().context("cannot start a worker")?);
    }
    let ended = child::wait(children, stop)?;
    stop.check()?;
    match ended.iter().find(|status| !status.success()) {
        Some(status) => {
            bail!("a worker ended with {status}; its reason is above. Start the sweep again: finished trials are kept.")
        }
        None => Ok(()),
    }
}

/// Cards that the workers may use: those of CUDA_VISIBLE_DEVICES, else all.
fn cards() -> Vec<String> {
    if !tch::Cuda::is_available() {
        return Vec::new();
    }
    match std::env::var("CUDA_VISIBLE_DEVICES") {
        Ok(list) if !list.is_empty() => list.split(',').map(|card| card.trim().to_string()).collect(),
        _ => (0..tch::Cuda::device_count()).map(|card| card.to_string()).collect(),
    }
}
