//! Who labelled a data file: `labelled-by.json` beside it, so that no judge measures what its own labels taught unnoticed.

use super::index::find;
use super::items::{ItemKind, Labels};
use anyhow::{Context, Result, bail};
use serde::Deserialize;
use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

/// The file's name, beside the data files that it speaks of.
const NAME: &str = "labelled-by.json";

/// What a judge's word was to a run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Taught {
    /// The preferences of this data file.
    Data(PathBuf),
    /// The rewards of the run's own samples.
    Rewards,
}

/// A judge whose word a run was trained on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Labeller {
    /// What `labelled-by.json` or [reward] calls it.
    pub judge: String,
    /// SHA-256 of its weights file, lower-case hex.
    pub weights_sha256: String,
    pub taught: Taught,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct LabelledBy {
    judges: BTreeMap<String, Weights>,
    files: BTreeMap<String, Sources>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Weights {
    weights_sha256: String,
}

/// The judges of one data file; what no judge said is absent.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Sources {
    /// Whose word the rows' own preferences are.
    label: Option<String>,
    /// Scorer -> judge
    #[serde(default)]
    scores: BTreeMap<String, String>,
}

/// The judges that labelled the data at `path` (`[data] path`) as `labels` (`[data] labels`) has it read. None where
/// nothing is said of the file, or people labelled it.
///
/// # Errors
/// When there is no data at `path`, or `labelled-by.json` beside it is not as docs/eval.md describes it.
pub fn labellers(path: &Path, labels: &Labels) -> Result<Vec<Labeller>> {
    let data = find(path, ItemKind::Pairs)?;
    let file = data.parent().unwrap_or(Path::new("")).join(NAME);
    let bytes = match std::fs::read(&file) {
        Ok(bytes) => bytes,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(error).with_context(|| format!("cannot read {}", file.display())),
    };
    let said: LabelledBy = serde_json::from_slice(&bytes).with_context(|| {
        format!(
            "{} does not say who labelled the data: expected `judges` and `files`, see docs/eval.md",
            file.display()
        )
    })?;
    let name = data.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
    let Some(of_file) = said.files.get(&name) else { return Ok(Vec::new()) };
    let labeller = |judge: &String| {
        let weights_sha256 = said.weights_of(judge).with_context(|| format!("{}: {name}", file.display()))?;
        Ok(Labeller { judge: judge.clone(), weights_sha256, taught: Taught::Data(data.clone()) })
    };
    of_file.judges(labels).into_iter().map(labeller).collect()
}

impl LabelledBy {
    fn weights_of(&self, judge: &str) -> Result<String> {
        let Some(Weights { weights_sha256: hash }) = self.judges.get(judge) else {
            let known: Vec<&String> = self.judges.keys().collect();
            bail!("the judge {judge:?} is not among `judges`, which has {known:?}; add it with its weights_sha256");
        };
        if hash.len() != 64 || !hash.bytes().all(|byte| byte.is_ascii_hexdigit()) {
            bail!(
                "the weights_sha256 of {judge:?} is {hash:?}, expected 64 hexadecimal digits; take those of \
                   `sha256sum model.safetensors`"
            );
        }
        Ok(hash.to_ascii_lowercase())
    }
}

impl Sources {
    /// The judges that count when a run reads `labels`.
    fn judges(&self, labels: &Labels) -> BTreeSet<&String> {
        match labels {
            Labels::Given => self.label.iter().collect(),
            scored => scored.scorers().iter().filter_map(|scorer| self.scores.get(scorer)).collect(),
        }
    }
}
