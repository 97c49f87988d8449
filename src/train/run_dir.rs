//! The folder of a run: its lock, its content, the starting point of a resumed run.

use super::checkpoint::{self, State};
use super::environment::{self, Contents, ENVIRONMENT};
use crate::keys::ConfigError;
use crate::machine::files::{remove_unfinished, write_atomically};
use crate::report;
use crate::rollout;
use crate::settings::{self, Change, Settings};
use crate::world::{World, settle};
use anyhow::{Context, Result, bail};
use serde::Deserialize;
use std::io::{Read, Seek, Write};
use std::path::{Path, PathBuf};

pub const RESOLVED: &str = "resolved.toml";
pub const METRICS: &str = "metrics.jsonl";
const LOCK: &str = "run.lock";
const SAMPLES: &str = "samples";
/// Results of a run.
const RESULTS: [&str; 3] = ["final", "best", "eval"];

/// The form of `--resume`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Resume {
    #[default]
    No,
    Yes,
    /// Resume, or start without a run to resume.
    Auto,
}

/// A run folder. The process that writes in it holds its lock.
#[derive(Debug)]
pub struct RunDir {
    pub path: PathBuf,
    /// `None` on ranks that do not write.
    lock: Option<std::fs::File>,
}

/// Another process writes in the folder of the run.
#[derive(Debug, thiserror::Error)]
#[error("{}: another process (pid {pid}) is writing this run. Wait for it, or set another train.out.", .run.display())]
pub struct Busy {
    run: PathBuf,
    pid: String,
}

/// The starting point of a run.
pub enum Start {
    Fresh,
    /// From a checkpoint.
    At(PathBuf, Box<State>),
}

impl RunDir {
    /// The folder of a run: locked on the writing rank, opened on the others once it exists.
    ///
    /// # Errors
    /// Those of [`lock`](Self::lock).
    pub fn open(path: &Path, resume: Resume, world: &dyn World) -> Result<Self> {
        let opened = match world.writes() {
            true => Self::lock(path, resume),
            false => Ok(Self { path: path.to_path_buf(), lock: None }),
        };
        settle(world, opened)
    }

    /// Whether this process writes in the folder.
    pub fn writes(&self) -> bool {
        self.lock.is_some()
    }

    /// Runs work that writes in the folder, if this process may.
    ///
    /// # Errors
    /// Those of `work`.
    pub fn write(&self, work: impl FnOnce() -> Result<()>) -> Result<()> {
        if self.writes() { work() } else { Ok(()) }
    }

    /// Renders the report of the run, if this process may.
    ///
    /// # Errors
    /// Unreadable files of the run, or an unwritable report.
    pub fn render(&self) -> Result<()> {
        self.write(|| report::render(&self.path, report::Evaluations::default()).map(drop))
    }

    /// Creates a missing folder (unless resuming), takes its lock, and removes unfinished files of a killed process.
    fn lock(path: &Path, resume: Resume) -> Result<Self> {
        if resume == Resume::Yes && !path.exists() {
            bail!(nothing_to_resume(path));
        }
        std::fs::create_dir_all(path).with_context(|| format!("cannot make the run folder {}", path.display()))?;
        let file = path.join(LOCK);
        let mut lock = std::fs::OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .open(&file)
            .with_context(|| format!("cannot open {}", file.display()))?;
        match lock.try_lock() {
            Ok(()) => {}
            Err(std::fs::TryLockError::WouldBlock) => {
                let mut pid = String::new();
                let _ = lock.read_to_string(&mut pid);
                bail!(Busy { run: path.into(), pid: pid.trim().into() });
            }
            Err(std::fs::TryLockError::Error(e)) => {
                return Err(e).with_context(|| format!("cannot lock {}", file.display()));
            }
        }
        lock.set_len(0)?;
        lock.rewind()?;
        writeln!(lock, "{}", std::process::id())?;
        remove_unfinished(path)?;
        Ok(Self { path: path.to_path_buf(), lock: Some(lock) })
    }

    pub fn join(&self, name: &str) -> PathBuf {
        self.path.join(name)
    }

    /// Chooses the starting point, refuses damage to an existing run, and reports skipped checkpoints. `contents`:
    /// present hashes of the configuration's paths.
    pub fn start(
        &self,
        resume: Resume,
        overwrite: bool,
        config: &Settings,
        contents: &Contents,
        say: &mut dyn FnMut(String),
    ) -> Result<Start> {
        // A run stopped while encoding has no step yet: it can be resumed by starting again without loss.
        let holds_steps = holds_steps(&self.path);
        let result = self.result()?;
        let begun = self.join(RESOLVED).exists() || result.is_some();
        match (begun || holds_steps, resume) {
            (false, Resume::Yes) => bail!(nothing_to_resume(&self.path)),
            (false, _) => Ok(Start::Fresh),
            (true, Resume::No) if overwrite => {
                self.clear()?;
                Ok(Start::Fresh)
            }
            (true, Resume::No) if !holds_steps && result.is_none() => Ok(Start::Fresh),
            (true, Resume::No) if holds_steps => bail!(
                "{}: the folder holds another run. Continue it with --resume, set another train.out, or set train.overwrite = true to delete it.",
                self.path.display()
            ),
            (true, _) if checkpoint::list(&self.path).is_empty() && result.is_some() => bail!(
                "{}: the folder holds {}, which this run would replace, and no checkpoint to continue from. Set another train.out, or set train.overwrite = true to delete it.",
                self.path.display(),
                result.unwrap_or_default()
            ),
            (true, _) => self.resume(config, contents, say),
        }
    }

    /// A result in the folder that a run from step 1 would replace. The sample grid of step 0 is none.
    fn result(&self) -> Result<Option<String>> {
        if let Some(name) = RESULTS.iter().find(|name| self.join(name).exists()) {
            return Ok(Some((*name).into()));
        }
        let samples = self.join(SAMPLES);
        if !samples.is_dir() {
            return Ok(None);
        }
        for entry in std::fs::read_dir(&samples).with_context(|| format!("cannot list {}", samples.display()))? {
            let name = entry.with_context(|| format!("cannot list {}", samples.display()))?.file_name();
            let name = name.to_string_lossy();
            if !name.chars().filter(char::is_ascii_digit).all(|digit| digit == '0') {
                return Ok(Some(format!("{SAMPLES}/{name}")));
            }
        }
        Ok(None)
    }

    fn resume(&self, config: &Settings, contents: &Contents, say: &mut dyn FnMut(String)) -> Result<Start> {
        let old = Settings::read(&self.join(RESOLVED))?;
        let recorded = environment::recorded(&self.path).contents;
        let same_content = |key: &str| recorded.contains_key(key) && recorded.get(key) == contents.get(key);
        let mut refused = Vec::new();
        for change in settings::changes(&old, config, &same_content)? {
            match change {
                Change::Harmless => {}
                Change::Rounding(text) => say(format!("{text}: the result is equal up to rounding")),
                Change::Refused(text) => refused.push(text),
            }
        }
        if !refused.is_empty() {
            bail!(ConfigError(format!(
                "{}: cannot resume with another configuration: {}. Give the run's own values, or start another run.",
                self.path.display(),
                refused.join("; ")
            )));
        }
        if let Some(key) = contents.keys().find(|key| recorded.contains_key(*key) && !same_content(key)) {
            bail!(
                "{}: cannot resume: what {key} names has changed since the run began (environment.json has the hashes). Restore it, or start another run.",
                self.path.display()
            );
        }
        let (newest, passed) = checkpoint::newest(&self.path);
        passed.into_iter().for_each(&mut *say);
        match newest {
            Some((path, state)) => {
                let waits = u64::from(state.pending.line.is_some());
                self.cut_metrics(state.step - waits.min(state.step))?;
                Ok(Start::At(path, Box::new(state)))
            }
            None => {
                say("no whole checkpoint yet: starting at step 1 again".into());
                self.cut_metrics(0)?;
                Ok(Start::Fresh)
            }
        }
    }

    /// Truncates metrics.jsonl to `step`, so that it never has a step twice.
    fn cut_metrics(&self, step: u64) -> Result<()> {
        let file = self.join(METRICS);
        // A line torn by a power cut may not be UTF-8.
        let Ok(bytes) = std::fs::read(&file) else { return Ok(()) };
        let text = String::from_utf8_lossy(&bytes);
        let of_line = |l: &&str| serde_json::from_str::<StepOfLine>(l).is_ok_and(|line| line.step <= step);
        let kept: String = text.lines().filter(of_line).map(|l| format!("{l}\n")).collect();
        write_atomically(&file, kept.as_bytes())
    }

    /// Deletes the output of a run; other files in the folder stay.
    fn clear(&self) -> Result<()> {
        let ours = |name: &str| {
            ["checkpoint-", "events.out.tfevents."].iter().any(|p| name.starts_with(p))
                || [
                    RESOLVED,
                    METRICS,
                    ENVIRONMENT,
                    "data-report.json",
                    SAMPLES,
                    rollout::FOLDER,
                    "report.html",
                    "report.json",
                ]
                .contains(&name)
                || RESULTS.contains(&name)
        };
        for entry in std::fs::read_dir(&self.path)? {
            let entry = entry?;
            if ours(&entry.file_name().to_string_lossy()) {
                let path = entry.path();
                let removed = if path.is_dir() { std::fs::remove_dir_all(&path) } else { std::fs::remove_file(&path) };
                removed.with_context(|| format!("cannot remove {}", path.display()))?;
            }
        }
        Ok(())
    }
}

fn nothing_to_resume(path: &Path) -> String {
    format!(
        "{}: nothing to resume: there is no run in this folder. Start it without --resume, or use --resume=auto.",
        path.display()
    )
}

/// Whether a folder holds steps of a run.
pub fn holds_steps(path: &Path) -> bool {
    std::fs::metadata(path.join(METRICS)).is_ok_and(|m| m.len() > 0) || !checkpoint::list(path).is_empty()
}

/// The part of a metrics line that truncation reads.
#[derive(Deserialize)]
struct StepOfLine {
    step: u64,
}

/// Appends lines to metrics.jsonl; each is whole before the next step starts.
pub struct MetricsFile(std::fs::File);

impl MetricsFile {
    pub fn open(run: &RunDir) -> Result<Self> {
        let path = run.join(METRICS);
        let file = std::fs::OpenOptions::new().create(true).append(true).open(&path);
        Ok(Self(file.with_context(|| format!("cannot open {}", path.display()))?))
    }

    pub fn line(&mut self, json: &str) -> Result<()> {
        self.0
            .write_all(format!("{json}\n").as_bytes())
            .context("cannot write metrics.jsonl; the last whole checkpoint stays usable")
    }

    /// Syncs the lines before a checkpoint, which must not outlive them.
    pub fn sync(&self) -> Result<()> {
        self.0.sync_data().context("cannot sync metrics.jsonl")
    }
}
