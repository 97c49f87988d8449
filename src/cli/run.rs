//! `diffpref run`

use super::{child, terminal};
use anyhow::{Context, Result, bail};
use diffpref::chain::{self, Planned, Program, Recipe, Stage};
use diffpref::keys::ConfigError;
use diffpref::machine::disk::default_cache_dir;
use diffpref::progress::{Signal, Stop, Stopped};
use std::fs::File;
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

const EXAMPLES: &str = "Examples:
  diffpref run configs/synpic.toml
  diffpref run configs/synpic.toml --until pairs
  diffpref run configs/synpic.toml --dry-run";

#[derive(clap::Args)]
#[command(after_help = EXAMPLES)]
pub struct Args {
    /// Recipe of the chain, a TOML file
    recipe: PathBuf,
    /// Last stage: generate, score, pairs, train or eval
    #[arg(long, value_name = "STAGE")]
    until: Option<Stage>,
    /// Commands of the chain and which are done already; nothing is run
    #[arg(long)]
    dry_run: bool,
}

pub fn run(args: &Args, stop: &Stop) -> Result<()> {
    let recipe = Recipe::read(&args.recipe)?;
    let cache_dir = default_cache_dir();
    if args.dry_run {
        let planned = chain::plan(&recipe, args.until, &cache_dir)?;
        return terminal::print(&planned.iter().map(planned_in_words).collect::<String>());
    }
    let progress = terminal::sink(false);
    let program = ThisProgram(std::env::current_exe().context("cannot find this program's own file")?);
    let done = chain::run(&recipe, args.until, &program, &cache_dir, progress.as_ref(), stop)?;
    progress.line(&format!("{} stages ran, {} were there already", done.ran, done.cached));
    match done.verdict {
        Some(log) => {
            terminal::print(&std::fs::read_to_string(&log).with_context(|| format!("cannot read {}", log.display()))?)
        }
        None => Ok(()),
    }
}

fn planned_in_words(planned: &Planned) -> String {
    let mark = if planned.cached { "there already" } else { "to run" };
    format!("# {}: {mark}\ndiffpref {}\n", planned.step.title(), chain::shown(&planned.step.arguments))
}

/// Runs each command as a process of its own: its memory is free again when it ends.
struct ThisProgram(PathBuf);

impl Program for ThisProgram {
    fn run(&self, arguments: &[String], log: &Path, stop: &Stop) -> Result<()> {
        let out = File::options().create(true).append(true).open(log);
        let out = out.with_context(|| format!("cannot write {}", log.display()))?;
        let mut command = Command::new(&self.0);
        child::bound(command.args(arguments).stdin(Stdio::null()).stdout(out));
        let started = command.spawn().with_context(|| format!("cannot start {}", self.0.display()))?;
        let status = child::wait(vec![started], stop)?.pop().context("the command left no status")?;
        stop.check()?;
        match (status.code(), status.signal()) {
            (Some(0), _) => Ok(()),
            (Some(130), _) => Err(Stopped(Signal::Interrupt).into()),
            (Some(143), _) => Err(Stopped(Signal::Terminate).into()),
            (Some(2), _) => Err(ConfigError("the command refuses its options; its reason is above".into()).into()),
            (Some(code), _) => bail!("the command ended with {code}; its reason is above"),
            (None, signal) => bail!("the command was ended by signal {}", signal.unwrap_or_default()),
        }
    }
}
