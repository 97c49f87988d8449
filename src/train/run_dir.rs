//! The folder of a training run: its content, the starting point of a resumed run.

use super::checkpoint::{self, State};
use super::environment::{self, Contents, ENVIRONMENT};
use crate::keys::ConfigError;
use crate::report;
use crate::rollout;
use crate::run_folder::{METRICS, RESOLVED, Resume, RunDir, checkpoints};
use crate::settings::{self, Change, Settings};
use anyhow::{Result, bail};
use std::path::PathBuf;

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
        self.write(|| report::render(&self.path, None).map(drop))
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
        match self.continues(resume, overwrite, &outputs)? {
            true => self.resume(config, contents, say),
            false => Ok(Start::Fresh),
        }
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
            "samples",
            "best",
            "final",
            rollout::FOLDER,
            "eval",
            "report.html",
            "report.json",
        ]
        .contains(&name)
}
