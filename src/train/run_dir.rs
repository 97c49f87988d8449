//! The folder of a training run: its content, the starting point of a resumed run.

use super::checkpoint::{self, State};
use super::environment::{self, Contents, ENVIRONMENT};
use crate::keys::ConfigError;
use crate::ledger::USED;
use crate::report;
use crate::rollout;
use crate::run_folder::{FINAL, METRICS, RESOLVED, Resume, RunDir, checkpoints};
use crate::settings::{self, Change, Settings};
use anyhow::{Context, Result, bail};
use std::path::PathBuf;

const SAMPLES: &str = "samples";
/// Results of a run.
const RESULTS: [&str; 3] = [FINAL, "best", "eval"];

/// The starting point of a run.
pub enum Start {
    Fresh,
    /// From a checkpoint.
    At(PathBuf, Box<State>),
}

impl RunDir {
    /// Renders the report of the run, if this process may.
    ///
    /// # Errors
    /// Unreadable files of the run, or an unwritable report.
    pub fn render(&self) -> Result<()> {
        self.write(|| report::render(&self.path, report::Evaluations::default()).map(drop))
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
        match self.continues(resume, overwrite, &outputs, self.result()?)? {
            true => self.resume(config, contents, say),
            false => Ok(Start::Fresh),
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
        let (newest, passed) = checkpoints::newest(&self.path, &checkpoint::check);
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
}

/// Whether a file or folder of the run folder is output of a training run.
fn outputs(name: &str) -> bool {
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
            USED,
        ]
        .contains(&name)
        || RESULTS.contains(&name)
}
