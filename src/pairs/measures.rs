//! The measures that decide, their directions and weights.

use crate::keys::ConfigError;
use crate::score::{ScoredRow, Summary};
use crate::scorers::Better;
use anyhow::{Context, Result};
use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::str::FromStr;

/// `--by SCORER.MEASURE[:WEIGHT]`
#[derive(Debug, Clone, PartialEq)]
pub struct By {
    pub name: String,
    pub weight: f64,
}

impl FromStr for By {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let wrong = || format!("{text:?}: expected SCORER.MEASURE or SCORER.MEASURE:WEIGHT with a weight above 0");
        let (name, weight) = match text.rsplit_once(':') {
            None => (text, 1.0),
            Some((name, weight)) => (name, weight.parse().map_err(|_| wrong())?),
        };
        let whole = name.split_once('.').is_some_and(|(scorer, measure)| !scorer.is_empty() && !measure.is_empty());
        match whole && f64::is_finite(weight) && weight > 0.0 {
            true => Ok(Self { name: name.into(), weight }),
            false => Err(wrong()),
        }
    }
}

/// A measure of the scored rows.
#[derive(Debug, Clone, PartialEq)]
pub struct Chosen {
    pub scorer: String,
    pub measure: String,
    pub weight: f64,
    /// 1, or -1 where lower is better.
    pub sign: f64,
}

impl Chosen {
    pub fn name(&self) -> String {
        format!("{}.{}", self.scorer, self.measure)
    }

    /// The number of a row, turned so that higher is better.
    pub fn number(&self, row: &ScoredRow) -> Option<f64> {
        Some(self.sign * row.scores.get(&self.scorer)?.get(&self.measure)?)
    }
}

/// A measure in a scores.json, or in rows without one.
struct Known {
    name: String,
    better: Better,
    /// Whether it is the first of its scorer that prefers.
    first: bool,
}

/// The measures of `by`, or the first one of every scorer that prefers. Directions are those of the scores.json beside each
/// file; without one higher is better, except for `lower`.
///
/// # Errors
/// An unknown measure, one without a preference, one that is named twice.
pub fn chosen(files: &[std::path::PathBuf], rows: &[ScoredRow], by: &[By], lower: &[String]) -> Result<Vec<Chosen>> {
    let mut known: Vec<Known> = Vec::new();
    for file in files {
        known.extend(described(&file.with_extension("json"))?);
    }
    for name in rows.iter().flat_map(names).collect::<BTreeSet<String>>() {
        if !known.iter().any(|known| known.name == name) {
            let scorer = name.split('.').next().unwrap_or_default();
            let first = !known.iter().any(|known| known.name.split('.').next() == Some(scorer));
            known.push(Known { name, better: Better::Higher, first });
        }
    }
    let all: Vec<&str> = known.iter().map(|known| known.name.as_str()).collect();
    let find = |name: &str| known.iter().find(|known| known.name == name).ok_or_else(|| unknown(name, &all));
    lower.iter().try_for_each(|name| find(name).map(drop))?;
    let firsts = known.iter().filter(|known| known.first).map(|known| By { name: known.name.clone(), weight: 1.0 });
    let by: Vec<By> = if by.is_empty() { firsts.collect() } else { by.to_vec() };
    let mut out: Vec<Chosen> = Vec::new();
    for By { name, weight } in by {
        let better = if lower.contains(&name) { Better::Lower } else { find(&name)?.better };
        let sign = match better {
            Better::Higher => 1.0,
            Better::Lower => -1.0,
            Better::Neither => {
                return Err(refusal(format!(
                    "--by {name}: neither higher nor lower is better by it; take another measure"
                )));
            }
        };
        if out.iter().any(|chosen| chosen.name() == name) {
            return Err(refusal(format!("--by {name}: named twice; give it one weight")));
        }
        let (scorer, measure) = name.split_once('.').unwrap_or((&name, ""));
        out.push(Chosen { scorer: scorer.into(), measure: measure.into(), weight, sign });
    }
    Ok(out)
}

fn names(row: &ScoredRow) -> Vec<String> {
    let of_scorer = |(scorer, measures): (&String, &BTreeMap<String, f64>)| {
        measures.keys().map(|measure| format!("{scorer}.{measure}")).collect::<Vec<_>>()
    };
    row.scores.iter().flat_map(of_scorer).collect()
}

/// The scores.json of `diffpref score`; `None` if there is none.
fn summary(file: &Path) -> Result<Option<Summary>> {
    if !file.is_file() {
        return Ok(None);
    }
    let bytes = std::fs::read(file).with_context(|| format!("cannot read {}", file.display()))?;
    let summary = serde_json::from_slice(&bytes)
        .with_context(|| format!("{}: expected the scores.json of `diffpref score`", file.display()))?;
    Ok(Some(summary))
}

fn described(file: &Path) -> Result<Vec<Known>> {
    let mut known = Vec::new();
    for scorer in summary(file)?.map_or(Vec::new(), |summary| summary.scorers) {
        let first = scorer.columns.iter().position(|column| column.measure.better != Better::Neither);
        for (index, column) in scorer.columns.into_iter().enumerate() {
            let name = format!("{}.{}", scorer.name, column.measure.name);
            known.push(Known { name, better: column.measure.better, first: first == Some(index) });
        }
    }
    Ok(known)
}

/// Scorers of the scores.json beside each file with the hashes of their weights.
///
/// # Errors
/// A file that is no scores.json.
pub fn weights(files: &[std::path::PathBuf]) -> Result<BTreeMap<String, String>> {
    let mut found = BTreeMap::new();
    for file in files {
        let scorers = summary(&file.with_extension("json"))?.map_or(Vec::new(), |summary| summary.scorers);
        found.extend(scorers.into_iter().filter_map(|scorer| Some((scorer.name, scorer.weights_sha256?))));
    }
    Ok(found)
}

fn unknown(name: &str, known: &[&str]) -> anyhow::Error {
    let hint = crate::keys::nearest(name, known).map_or(String::new(), |near| format!(" (did you mean {near}?)"));
    refusal(format!("--by {name}: no such measure; there are {}{hint}", known.join(", ")))
}

fn refusal(text: String) -> anyhow::Error {
    ConfigError(text).into()
}
