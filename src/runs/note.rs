//! Records of runs as they begin and end. The database is a convenience: a record that cannot be written never ends a run.

use super::folders::{is_run, root_of};
use super::record::{Record, Values, flat, path_from};
use super::status::Status;
use super::store::Store;
use crate::machine::clock::now_iso;
use crate::progress::{Progress, Stopped};
use anyhow::Result;
use std::path::Path;

/// Records that a run begins. `settings`: its resolved configuration.
pub fn begun(run: &Path, settings: &toml::Table, progress: &dyn Progress) {
    let written = || -> Result<()> {
        let root = root_of(run);
        std::fs::create_dir_all(&root)?;
        let record = Record {
            path: path_from(&root, run),
            status: Status::Running,
            reason: None,
            updated: now_iso(),
            settings: flat(&serde_json::to_value(settings)?),
            metrics: Values::new(),
            made: Values::new(),
        };
        Store::open(&root, &mut |line| progress.line(&line))?.put(&record)
    };
    say(written(), progress);
}

/// Records how a run ended.
pub fn ended<T>(run: &Path, result: &Result<T>, progress: &dyn Progress) {
    let failure = match result {
        Ok(_) => None,
        Err(error) if error.is::<Stopped>() => None,
        Err(error) => Some(format!("{error:#}")),
    };
    put(run, failure, progress);
}

/// Records a run again after its evaluation.
pub fn evaluated(run: &Path, progress: &dyn Progress) {
    put(run, None, progress);
}

/// Records what the folder holds. An error of this process says nothing about a run that another one is writing, or
/// that was finished before.
fn put(run: &Path, failure: Option<String>, progress: &dyn Progress) {
    let written = || -> Result<()> {
        if !is_run(run) {
            return Ok(());
        }
        let root = root_of(run);
        let mut record = Record::of_folder(&root, run)?;
        if record.status == Status::Stopped && failure.is_some() {
            (record.status, record.reason) = (Status::Failed, failure.clone());
        }
        Store::open(&root, &mut |line| progress.line(&line))?.put(&record)
    };
    say(written(), progress);
}

fn say(written: Result<()>, progress: &dyn Progress) {
    if let Err(error) = written {
        progress.line(&format!(
            "warning: the runs database lacks this run ({error:#}); `diffpref runs rebuild` reads it from its folder"
        ));
    }
}
