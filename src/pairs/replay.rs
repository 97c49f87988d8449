//! Rows of earlier rounds beside those of the newest one (query-policy misalignment, arXiv 2305.17400).

use super::rules::Rule;
use crate::data::draws::key;
use crate::machine::files::relative_to;
use anyhow::{Context, Result, bail};
use serde_json::{Map, Value, json};
use std::path::{Path, PathBuf};

/// Field of a row that was drawn from all rounds.
const MARK: &str = "replayed";

/// `--replay SHARE --earlier FILE..`
#[derive(Debug, Clone, PartialEq)]
pub struct Replay {
    /// Share of the written rows that are drawn from all rounds, above 0 and below 1.
    pub share: f64,
    /// pairs.jsonl or lists.jsonl of earlier rounds, the oldest first.
    pub earlier: Vec<PathBuf>,
}

/// A row of a round.
struct Known {
    /// 1 for the oldest file.
    round: usize,
    id: String,
    row: Map<String, Value>,
}

impl Replay {
    /// Rows drawn from the earlier files and the newest rows alike, as many as make up the share. Every row of a round
    /// is drawn once before any is drawn again; the order is that of key(0, "replay", pass, round, id) of
    /// docs/determinism.md. Ids become `replay-PASS-ROUND:ID`.
    ///
    /// # Errors
    /// A file that is not of `rule`'s kind, with file and row; pictures that are gone.
    pub fn rows(&self, newest: &[String], rule: Rule, out: &Path) -> Result<Vec<String>> {
        let mut pool = Vec::new();
        for (index, file) in self.earlier.iter().enumerate() {
            let text = std::fs::read_to_string(file).with_context(|| format!("cannot read {}", file.display()))?;
            for (row, line) in text.lines().enumerate().filter(|(_, line)| !line.trim().is_empty()) {
                let here = || format!("{}:{}", file.display(), row + 1);
                let row = parsed(line, rule).with_context(here)?;
                if !row.contains_key(MARK) {
                    pool.push(known(moved(row, file, out).with_context(here)?, index + 1, pool.len()));
                }
            }
        }
        for line in newest {
            pool.push(known(parsed(line, rule)?, self.earlier.len() + 1, pool.len()));
        }
        let wanted = (newest.len() as f64 * self.share / (1.0 - self.share)).round() as usize;
        let mut rows = Vec::new();
        for pass in 0.. {
            if rows.len() == wanted || pool.is_empty() {
                break;
            }
            let mut order: Vec<&Known> = pool.iter().collect();
            order.sort_by_cached_key(|known| key(0, "replay", &[&pass, &known.round, &known.id]));
            let chosen = order.into_iter().take(wanted - rows.len()).map(|known| known.drawn(pass).to_string());
            rows.extend(chosen.collect::<Vec<_>>());
        }
        Ok(rows)
    }
}

impl Known {
    fn drawn(&self, pass: usize) -> Value {
        let mut row = self.row.clone();
        row.insert("id".into(), json!(format!("replay-{pass}-{}:{}", self.round, self.id)));
        row.insert(MARK.into(), json!(true));
        Value::Object(row)
    }
}

fn known(row: Map<String, Value>, round: usize, number: usize) -> Known {
    let id = match row.get("id") {
        Some(Value::String(id)) => id.clone(),
        Some(other) => other.to_string(),
        None => number.to_string(),
    };
    Known { round, id, row }
}

/// Fields that hold pictures.
fn pictures(rule: Rule) -> &'static [&'static str] {
    match rule {
        Rule::BestWorst | Rule::Mu2Sigma | Rule::WorstOfFive | Rule::All => &["winner", "loser"],
        Rule::List => &["images"],
        Rule::SmallMargins => &["first", "second"],
    }
}

fn parsed(line: &str, rule: Rule) -> Result<Map<String, Value>> {
    let wanted = pictures(rule);
    match serde_json::from_str(line)? {
        Value::Object(row) if wanted.iter().all(|field| row.contains_key(*field)) => Ok(row),
        _ => bail!(
            "expected a row with {}, as --rule of this call makes; give files of the same rule",
            wanted.join(" and ")
        ),
    }
}

/// The row with its pictures relative to `out`.
fn moved(mut row: Map<String, Value>, file: &Path, out: &Path) -> Result<Map<String, Value>> {
    let folder = file.parent().unwrap_or(Path::new(""));
    for field in ["winner", "loser", "images"] {
        if let Some(value) = row.get_mut(field) {
            *value = of_picture(value, folder, out)?;
        }
    }
    Ok(row)
}

fn of_picture(value: &Value, folder: &Path, out: &Path) -> Result<Value> {
    match value {
        Value::String(path) => Ok(json!(relative_to(out, &folder.join(path))?)),
        Value::Array(paths) => {
            paths.iter().map(|path| of_picture(path, folder, out)).collect::<Result<_>>().map(Value::Array)
        }
        other => bail!("expected the path of a picture, found {other}"),
    }
}
