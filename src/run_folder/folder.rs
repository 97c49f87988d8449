//! The folder of a run: its lock, and its metrics file.

use super::checkpoints;
use crate::machine::files::{remove_unfinished, write_atomically};
use crate::world::{World, settle};
use anyhow::{Context, Result, bail};
use serde::Deserialize;
use std::io::{Read, Seek, Write};
use std::path::{Path, PathBuf};

pub const RESOLVED: &str = "resolved.toml";
pub const METRICS: &str = "metrics.jsonl";
/// Folder of a finished run's weights.
pub const FINAL: &str = "final";
const LOCK: &str = "run.lock";

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

    /// Whether the run of the folder continues; a fresh one may begin otherwise. `outputs`: files and folders of a run by
    /// name, which `overwrite` deletes. Other files stay. `result`: an existing file or folder that a run from step 1 would
    /// replace; without a checkpoint only `overwrite` allows it.
    ///
    /// # Errors
    /// A folder that holds another run, or none where one shall be resumed.
    pub fn continues(
        &self,
        resume: Resume,
        overwrite: bool,
        outputs: &dyn Fn(&str) -> bool,
        result: Option<String>,
    ) -> Result<bool> {
        // A run stopped before its first step can be resumed by starting again without loss.
        let begun = self.join(RESOLVED).exists() || result.is_some();
        let holds_steps = holds_steps(&self.path);
        let lacks_checkpoints = checkpoints::list(&self.path).is_empty();
        match (begun || holds_steps, resume) {
            (false, Resume::Yes) => bail!(nothing_to_resume(&self.path)),
            (false, _) => Ok(false),
            (true, Resume::No) if overwrite => self.clear(outputs).map(|()| false),
            (true, Resume::No) if !holds_steps && result.is_none() => Ok(false),
            (true, Resume::No) if holds_steps => bail!(
                "{}: the folder holds another run. Continue it with --resume, set another train.out, or set train.overwrite = true to delete it.",
                self.path.display()
            ),
            // Best weights and samples of a run that was killed before its first checkpoint are its own.
            (true, _) => match result.filter(|name| name == FINAL || !holds_steps).filter(|_| lacks_checkpoints) {
                None => Ok(true),
                Some(result) => bail!(
                    "{}: the folder holds {result}, which this run would replace, and no checkpoint to continue from. Set another train.out, or set train.overwrite = true to delete it.",
                    self.path.display()
                ),
            },
        }
    }

    fn clear(&self, outputs: &dyn Fn(&str) -> bool) -> Result<()> {
        for entry in std::fs::read_dir(&self.path)? {
            let entry = entry?;
            if outputs(&entry.file_name().to_string_lossy()) {
                let path = entry.path();
                let removed = if path.is_dir() { std::fs::remove_dir_all(&path) } else { std::fs::remove_file(&path) };
                removed.with_context(|| format!("cannot remove {}", path.display()))?;
            }
        }
        Ok(())
    }

    /// Truncates metrics.jsonl to `step`, so that it never has a step twice.
    ///
    /// # Errors
    /// A file that cannot be written.
    pub fn cut_metrics(&self, step: u64) -> Result<()> {
        let file = self.join(METRICS);
        // A line torn by a power cut may not be UTF-8.
        let Ok(bytes) = std::fs::read(&file) else { return Ok(()) };
        let text = String::from_utf8_lossy(&bytes);
        let of_line = |l: &&str| serde_json::from_str::<StepOfLine>(l).is_ok_and(|line| line.step <= step);
        let kept: String = text.lines().filter(of_line).map(|l| format!("{l}\n")).collect();
        write_atomically(&file, kept.as_bytes())
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
    std::fs::metadata(path.join(METRICS)).is_ok_and(|m| m.len() > 0) || !checkpoints::list(path).is_empty()
}

/// The part of a metrics line that truncation reads.
#[derive(Deserialize)]
struct StepOfLine {
    step: u64,
}
