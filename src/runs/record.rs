//! A run as the database knows it, read from its folder.

use super::status::Status;
use crate::metrics::evaluation::Evaluation;
use crate::report::metrics::Metrics;
use anyhow::{Context, Result};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use std::collections::BTreeMap;
use std::path::Path;

/// Text and numbers by key. Keys of tables are joined by a dot: `method.beta`.
pub type Values = BTreeMap<String, Value>;

/// A run.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Record {
    /// Folder, relative to that of the database.
    pub path: String,
    pub status: Status,
    /// Why a failed run failed.
    pub reason: Option<String>,
    /// Time of the record, UTC.
    pub updated: String,
    /// Keys of the configuration.
    pub settings: Values,
    /// Newest value of every metric, and figures of its evaluation as `scorer.measure`.
    pub metrics: Values,
    /// Versions, device, hashes of program, model and data.
    pub made: Values,
}

impl Record {
    /// Reads a run's folder. `root`: folder of the database.
    ///
    /// # Errors
    /// A folder that is no run's, and damaged files of a run.
    pub fn of_folder(root: &Path, run: &Path) -> Result<Self> {
        let finished = run.join("final").is_dir();
        let status = match (finished, is_locked(run)) {
            (_, true) => Status::Running,
            (true, false) => Status::Finished,
            (false, false) => Status::Stopped,
        };
        let text = std::fs::read_to_string(run.join("resolved.toml"));
        let text = text.with_context(|| format!("{} is no folder of a run", run.display()))?;
        let table: toml::Table =
            text.parse().with_context(|| format!("{} is damaged", run.join("resolved.toml").display()))?;
        let mut metrics: Values = Metrics::read(&run.join("metrics.jsonl"))?.newest_values()?.into_iter().collect();
        if let Ok(evaluation) = Evaluation::read(&run.join("eval")) {
            metrics.extend(evaluation.figures().into_iter().map(|(name, number)| (name, number.into())));
        }
        Ok(Self {
            path: path_from(root, run),
            status,
            reason: None,
            updated: crate::machine::clock::now_iso(),
            settings: flat(&serde_json::to_value(&table)?),
            metrics,
            made: made(run),
        })
    }

    /// A value by key: `path`, `name`, `status`, `reason`, then metrics, settings, and what it was made by.
    pub fn value(&self, key: &str) -> Option<Value> {
        match key {
            "path" => Some(self.path.clone().into()),
            "name" => Some(self.name().into()),
            "status" => Some(self.status.name().into()),
            "reason" => self.reason.clone().map(Value::from),
            "updated" => Some(self.updated.clone().into()),
            _ => [&self.metrics, &self.settings, &self.made].into_iter().find_map(|values| values.get(key).cloned()),
        }
    }

    /// Keys with a value.
    pub fn keys(&self) -> impl Iterator<Item = &str> {
        let own = ["path", "name", "status", "reason", "updated"].into_iter();
        own.chain([&self.metrics, &self.settings, &self.made].into_iter().flat_map(|v| v.keys().map(String::as_str)))
    }

    /// Last part of the path.
    pub fn name(&self) -> &str {
        self.path.rsplit('/').next().unwrap_or(&self.path)
    }
}

/// Whether a process holds the lock of a run.
fn is_locked(run: &Path) -> bool {
    let lock = std::fs::File::open(run.join("run.lock"));
    lock.is_ok_and(|lock| matches!(lock.try_lock_shared(), Err(std::fs::TryLockError::WouldBlock)))
}

/// `run` as seen from `root`; absolute if it is not below.
pub fn path_from(root: &Path, run: &Path) -> String {
    let full = |path: &Path| path.canonicalize().or_else(|_| std::path::absolute(path)).unwrap_or_else(|_| path.into());
    let (root, run) = (full(root), full(run));
    run.strip_prefix(&root).unwrap_or(&run).display().to_string()
}

/// The parts of environment.json that are kept.
#[derive(Deserialize)]
struct Environment {
    #[serde(flatten)]
    values: Map<String, Value>,
}

fn made(run: &Path) -> Values {
    let bytes = std::fs::read(run.join("environment.json")).unwrap_or_default();
    let Ok(Environment { values }) = serde_json::from_slice(&bytes) else { return Values::new() };
    let text = |key: &str| Some((key.to_string(), values.get(key).filter(|value| value.is_string())?.clone()));
    let mut made: Values =
        ["diffpref", "libtorch", "program_sha256", "device", "dtype", "family"].into_iter().filter_map(text).collect();
    if let Some(model) = values.get("contents").and_then(|contents| contents.get("model.path")) {
        made.insert("model_sha256".into(), crate::machine::hashes::of_bytes(model.to_string().as_bytes()).into());
    }
    if let Some(data) = values.get("data").and_then(|data| data.get("sha256")) {
        made.insert("data_sha256".into(), data.clone());
    }
    made
}

/// Tables as dotted keys; lists stay whole.
pub fn flat(value: &Value) -> Values {
    let mut out = Values::new();
    if let Value::Object(map) = value {
        for (key, value) in map {
            match value {
                Value::Object(_) => out.extend(flat(value).into_iter().map(|(k, v)| (format!("{key}.{k}"), v))),
                value => drop(out.insert(key.clone(), value.clone())),
            }
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tables_become_dotted_keys() {
        let flat = flat(&serde_json::json!({"method": {"name": "dpo", "beta": 2}, "x": [1]}));
        let keys: Vec<&str> = flat.keys().map(String::as_str).collect();
        assert_eq!(keys, ["method.beta", "method.name", "x"]);
    }
}
