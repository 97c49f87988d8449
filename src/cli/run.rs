//! `diffpref run`

use super::terminal;
use anyhow::{Context, Result, bail};
use diffpref::chain::{self, Planned, Program, Recipe, Stage};
use diffpref::keys::ConfigError;
use diffpref::machine::disk::default_cache_dir;
use diffpref::progress::{Signal, Stop, Stopped};
use std::fs::File;
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::Duration;

const EXAMPLES: &str = "Examples:
  diffpref run configs/synpic.toml
  diffpref run configs/synpic.toml --until pairs
  diffpref run configs/synpic.toml --dry-run";

/// Sent by the kernel to a command when the chain dies, once per thread of the chain: the first one stops the work like
/// SIGTERM, and no further one ends it at once.
pub const PARENT_DIED: i32 = signal_hook::consts::SIGUSR1;

/// How often a running command is looked after.
const POLL: Duration = Duration::from_millis(50);

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
        // A group of its own: a terminal's Ctrl-C reaches this process alone, which passes it on once.
        command.args(arguments).stdin(Stdio::null()).stdout(out).process_group(0);
        ends_with_its_parent(&mut command);
        let child = command.spawn().with_context(|| format!("cannot start {}", self.0.display()))?;
        let status = wait(child, stop)?;
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

/// A killed chain must not leave a command at work in a folder that the next call continues in.
#[cfg(target_os = "linux")]
fn ends_with_its_parent(command: &mut Command) {
    let ask = || {
        // SAFETY: prctl with these arguments only sets the signal that the parent's end sends.
        unsafe { libc::prctl(libc::PR_SET_PDEATHSIG, PARENT_DIED) };
        Ok(())
    };
    // SAFETY: between fork and exec only prctl is called, which is safe there.
    unsafe { command.pre_exec(ask) };
}

#[cfg(not(target_os = "linux"))]
fn ends_with_its_parent(_: &mut Command) {}

/// Waits for the end. A signal to this process is passed on once: the command stops at its next point and keeps its
/// work.
fn wait(mut child: Child, stop: &Stop) -> Result<ExitStatus> {
    let mut told = false;
    loop {
        if let Some(status) = child.try_wait()? {
            return Ok(status);
        }
        if let (Some(signal), false) = (stop.requested(), told) {
            told = true;
            let signal = match signal {
                Signal::Interrupt => libc::SIGINT,
                Signal::Terminate => libc::SIGTERM,
            };
            // SAFETY: kill sends a signal to our own child, which has not been waited for.
            unsafe { libc::kill(child.id() as i32, signal) };
        }
        std::thread::sleep(POLL);
    }
}
