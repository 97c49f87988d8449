//! The folder of a sweep: its file, its trials, its database, its lock.

use super::expand::expand;
use super::file::Sweep;
use super::ledger::{Ledger, Status};
use super::plan::{Plan, Trial, Written};
use super::work::{Stage, Work};
use crate::keys::ConfigError;
use crate::machine::files::write_atomically;
use crate::report::metrics::Metrics;
use anyhow::{Context, Result, bail};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::path::{Path, PathBuf};

/// Copy of the sweep file, for workers.
const SWEEP: &str = "sweep.toml";
/// Numbers and settings of all trials ever planned here.
const TRIALS: &str = "trials.json";
const LOCK: &str = "sweep.lock";

/// A sweep with its folder and its numbered trials.
pub struct Folder {
    pub path: PathBuf,
    pub sweep: Sweep,
    pub plan: Plan,
}

/// A line of trials.json.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
struct Known {
    number: usize,
    name: String,
    /// Hash of the settings; absent for a row without a training.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    key: Option<String>,
    #[serde(default, skip_serializing_if = "Written::is_empty")]
    settings: Written,
}

impl Folder {
    /// A sweep file with its folder, and the numbers that trials have there. Nothing is written.
    ///
    /// # Errors
    /// A file that is no sweep; trials of the folder whose settings differ by now.
    pub fn read(file: &Path) -> Result<Self> {
        let sweep = Sweep::read(file)?;
        let path = sweep.folder().to_path_buf();
        Self::of(sweep, path, file)
    }

    /// The sweep that a folder holds.
    ///
    /// # Errors
    /// A folder without a sweep.
    pub fn open(path: &Path) -> Result<Self> {
        let file = path.join(SWEEP);
        if !file.is_file() {
            let text = format!(
                "{}: there is no sweep in this folder. Start it with `diffpref sweep SWEEP.toml`, and give its folder.",
                path.display()
            );
            return Err(ConfigError(text).into());
        }
        Self::of(Sweep::read(&file)?, path.into(), &file)
    }

    fn of(sweep: Sweep, path: PathBuf, file: &Path) -> Result<Self> {
        let mut plan = expand(&sweep, file)?;
        let known = known(&path)?;
        refuse_changed(&plan, &known, &path)?;
        plan.number(&known.iter().map(|known| (known.name.clone(), known.number)).collect());
        Ok(Self { path, sweep, plan })
    }

    /// Folder of a trial.
    pub fn trial(&self, number: usize) -> PathBuf {
        self.path.join("trials").join(format!("{number:04}"))
    }

    /// Pictures of all evaluations: those of the start model are painted and rated once.
    pub fn pictures(&self) -> PathBuf {
        self.path.join("pictures")
    }

    /// Folder of an evaluation.
    pub fn evaluation(&self, trial: usize, stage: Stage) -> PathBuf {
        self.trial(trial).join(match stage {
            Stage::Train | Stage::Judge => "eval",
            Stage::Choose => "choose",
        })
    }

    /// Writes the sweep file, the numbers of trials and the missing work. `file`: the sweep file.
    ///
    /// # Errors
    /// An unwritable folder; a change that another process has just made.
    pub fn prepare(&mut self, file: &Path, say: &mut dyn FnMut(String)) -> Result<Ledger> {
        std::fs::create_dir_all(&self.path).with_context(|| format!("cannot make {}", self.path.display()))?;
        let text = std::fs::read(file).with_context(|| format!("cannot read {}", file.display()))?;
        let (mut ledger, is_new) = Ledger::open(&self.path, say)?;
        ledger.alone(|rows| {
            let before = known(&self.path)?;
            refuse_changed(&self.plan, &before, &self.path)?;
            self.plan.number(&before.iter().map(|known| (known.name.clone(), known.number)).collect());
            write_atomically(&self.path.join(TRIALS), &merged(&self.plan, before)?)?;
            write_atomically(&self.path.join(SWEEP), &text)?;
            for work in Work::all(&self.plan, self.sweep.eval.is_some()) {
                // In a new database beside trials, finished work is known by its files.
                let status = if is_new && self.is_done(&work) { Status::Finished } else { Status::Free };
                rows.add(&work, status)?;
            }
            Ok(())
        })?;
        Ok(ledger)
    }

    /// Whether the files of finished work are there.
    fn is_done(&self, work: &Work) -> bool {
        let dir = self.trial(work.trial);
        match work.stage {
            Stage::Train => {
                let steps = self.plan.rungs.get(work.rung).copied().flatten();
                let reached = || Metrics::read(&dir.join("metrics.jsonl")).map_or(0, |metrics| metrics.last_step());
                dir.join("final").is_dir() && steps.is_none_or(|steps| reached() >= steps)
            }
            Stage::Choose | Stage::Judge => self.evaluation(work.trial, work.stage).join("eval.json").is_file(),
        }
    }

    /// Takes the lock of the folder: one `sweep` at a time.
    ///
    /// # Errors
    /// Another process that holds it.
    pub fn lock(&self) -> Result<std::fs::File> {
        std::fs::create_dir_all(&self.path).with_context(|| format!("cannot make {}", self.path.display()))?;
        let path = self.path.join(LOCK);
        let file = std::fs::OpenOptions::new().read(true).write(true).create(true).truncate(false).open(&path);
        let mut file = file.with_context(|| format!("cannot open {}", path.display()))?;
        match file.try_lock() {
            Ok(()) => {
                file.set_len(0)?;
                writeln!(file, "{}", std::process::id())?;
                Ok(file)
            }
            Err(std::fs::TryLockError::WouldBlock) => {
                let mut pid = String::new();
                let _ = file.read_to_string(&mut pid);
                bail!(
                    "{}: another sweep (pid {}) runs in this folder. Wait for it, help it with `diffpref sweep-worker {}`, or set another out.",
                    self.path.display(),
                    pid.trim(),
                    self.path.display()
                )
            }
            Err(std::fs::TryLockError::Error(e)) => Err(e).with_context(|| format!("cannot lock {}", path.display())),
        }
    }

    /// Title of a trial for people: number, point and seed.
    pub fn title(&self, trial: &Trial) -> String {
        format!("trial {} ({})", trial.number, self.plan.name(trial))
    }
}

fn known(path: &Path) -> Result<Vec<Known>> {
    let file = path.join(TRIALS);
    match std::fs::read(&file) {
        Ok(bytes) => serde_json::from_slice(&bytes)
            .with_context(|| format!("{} is damaged; restore it, or give the sweep another out", file.display())),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(Vec::new()),
        Err(error) => Err(error).with_context(|| format!("cannot read {}", file.display())),
    }
}

/// A trial of the folder whose settings differ would be continued with others: it is refused. New trials may join, and
/// trials that the file no longer has are left out of the answer.
fn refuse_changed(plan: &Plan, known: &[Known], path: &Path) -> Result<()> {
    let by_name: BTreeMap<&str, &Known> = known.iter().map(|known| (known.name.as_str(), known)).collect();
    for trial in &plan.trials {
        let name = plan.name(trial);
        let Some(before) = by_name.get(name.as_str()) else { continue };
        let now = trial.training.as_ref();
        if before.key == now.map(|training| training.key.clone()) {
            continue;
        }
        let empty = Written::new();
        let written = now.map_or(&empty, |training| &training.written);
        let keys: std::collections::BTreeSet<&String> = before.settings.keys().chain(written.keys()).collect();
        let show = |value: Option<&serde_json::Value>| value.map_or("absent".into(), ToString::to_string);
        let changed = keys.into_iter().filter(|key| before.settings.get(*key) != written.get(*key));
        let changed: Vec<String> = changed
            .map(|key| {
                format!(
                    "{key}: the folder has {}, the sweep has {}",
                    show(before.settings.get(key)),
                    show(written.get(key))
                )
            })
            .collect();
        let text = format!(
            "{}: \"{name}\" was planned here with other settings ({}). Restore the configuration, or set another out: a sweep may gain trials, not change them.",
            path.display(),
            changed.join("; ")
        );
        return Err(ConfigError(text).into());
    }
    Ok(())
}

/// trials.json with the trials of a plan added.
fn merged(plan: &Plan, mut known: Vec<Known>) -> Result<Vec<u8>> {
    for trial in &plan.trials {
        if known.iter().all(|before| before.number != trial.number) {
            let training = trial.training.as_ref();
            known.push(Known {
                number: trial.number,
                name: plan.name(trial),
                key: training.map(|training| training.key.clone()),
                settings: training.map(|training| training.written.clone()).unwrap_or_default(),
            });
        }
    }
    known.sort_by_key(|known| known.number);
    Ok(serde_json::to_vec_pretty(&known)?)
}
