//! Labellers of a model's training data. A scorer among them cannot measure the effect of its own labels.

use super::spec::ScorerSpec;
use crate::data::index::find;
use crate::data::items::Labels;
use crate::machine::files::write_atomically;
use crate::machine::hashes;
use anyhow::{Context, Result, bail};
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

/// Name of the file, in the folder of the data files that it describes.
const NAME: &str = "labelled-by.json";

/// Use of a judge by a run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Taught {
    /// Preferences of this data file.
    Data(PathBuf),
    /// Rewards of the run's own samples.
    Rewards,
}

/// A judge whose labels or ratings a run was trained on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Labeller {
    /// Its name in `labelled-by.json` or [reward].
    pub judge: String,
    /// SHA-256 of its weights file, lower-case hex.
    pub weights_sha256: String,
    pub taught: Taught,
}

#[derive(Default, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
struct LabelledBy {
    judges: BTreeMap<String, Weights>,
    files: BTreeMap<String, Sources>,
}

#[derive(Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
struct Weights {
    weights_sha256: String,
}

/// The judges of one data file.
#[derive(Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
struct Sources {
    /// The judges behind the rows' own preferences; `None`: people, or known from how the pictures were made.
    #[serde(skip_serializing_if = "Option::is_none")]
    label: Option<Judges>,
    /// Scorer -> judges
    #[serde(default)]
    scores: BTreeMap<String, Judges>,
}

/// A judge, or several that decided together.
#[derive(Deserialize, Serialize)]
#[serde(untagged)]
enum Judges {
    One(String),
    Several(Vec<String>),
}

impl Judges {
    fn names(&self) -> &[String] {
        match self {
            Self::One(name) => std::slice::from_ref(name),
            Self::Several(names) => names,
        }
    }
}

/// Scorers of a data file that `diffpref pairs` writes.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Judged {
    /// Scorer -> SHA-256 of its weights file.
    pub weights: BTreeMap<String, String>,
    /// Scorers that decided on the preferences.
    pub label: Vec<String>,
    /// Measure in `scores` of the rows -> scorer.
    pub scores: BTreeMap<String, String>,
}

impl Judged {
    /// Adds judges behind the preferences of other files whose rows are written too.
    ///
    /// # Errors
    /// A judge of the same name with other weights.
    pub fn add(&mut self, others: Vec<Labeller>) -> Result<()> {
        for Labeller { judge, weights_sha256, .. } in others {
            if self.weights.get(&judge).is_some_and(|own| *own != weights_sha256) {
                bail!("two files are labelled by {judge:?} with different weights: rate their pictures by one of them");
            }
            if !self.label.contains(&judge) {
                self.label.push(judge.clone());
            }
            self.weights.insert(judge, weights_sha256);
        }
        Ok(())
    }

    /// Adds the data file `file` of `dir` to the `labelled-by.json` there. Scorers without weights cannot be recognised
    /// again and are left out.
    ///
    /// # Errors
    /// A file that is there and is no `labelled-by.json`, or has another judge of the same name; a folder that cannot be
    /// written.
    pub fn write(&self, dir: &Path, file: &str) -> Result<()> {
        let path = dir.join(NAME);
        let mut said = read(&path)?.unwrap_or_default();
        let before = said.files.remove(file).is_some();
        let is_known = |name: &&String| self.weights.contains_key(*name);
        let label: Vec<String> = self.label.iter().filter(is_known).cloned().collect();
        let known = self.scores.iter().filter(|(_, scorer)| self.weights.contains_key(*scorer));
        let scores: BTreeMap<String, Judges> =
            known.map(|(measure, scorer)| (measure.clone(), Judges::One(scorer.clone()))).collect();
        if scores.is_empty() && label.is_empty() && !before {
            return Ok(());
        }
        for (name, hash) in &self.weights {
            let weights = Weights { weights_sha256: hash.clone() };
            if said.judges.insert(name.clone(), weights).is_some_and(|old| old.weights_sha256 != *hash) {
                bail!(
                    "{} has another judge {name:?}, with other weights: write the pairs into another folder",
                    path.display()
                );
            }
        }
        let label = (!label.is_empty()).then_some(Judges::Several(label));
        said.files.insert(file.to_string(), Sources { label, scores });
        write_atomically(&path, &serde_json::to_vec_pretty(&said)?)
    }
}

/// The description of a folder's data files; `None` without one.
fn read(file: &Path) -> Result<Option<LabelledBy>> {
    let bytes = match std::fs::read(file) {
        Ok(bytes) => bytes,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error).with_context(|| format!("cannot read {}", file.display())),
    };
    let said = serde_json::from_slice(&bytes).with_context(|| {
        format!(
            "{} does not describe the labels of the data: expected `judges` and `files`, see docs/eval.md",
            file.display()
        )
    })?;
    Ok(Some(said))
}

/// The judges that labelled the data at `path` (`[data] path`), by the labels that a run reads (`[data] labels`).
/// Empty if people labelled it or nothing is known.
///
/// # Errors
/// No data at `path`, or a `labelled-by.json` that differs from its description in docs/eval.md.
pub fn labellers(path: &Path, labels: &Labels) -> Result<Vec<Labeller>> {
    let data = find(path)?;
    let file = data.parent().unwrap_or(Path::new("")).join(NAME);
    let Some(said) = read(&file)? else { return Ok(Vec::new()) };
    let name = data.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
    let Some(of_file) = said.files.get(&name) else { return Ok(Vec::new()) };
    let labeller = |judge: &String| {
        let weights_sha256 = said.weights_of(judge).with_context(|| format!("{}: {name}", file.display()))?;
        Ok(Labeller { judge: judge.clone(), weights_sha256, taught: Taught::Data(data.clone()) })
    };
    of_file.judges(labels).into_iter().map(labeller).collect()
}

/// The scorers of [reward] whose weights still exist.
///
/// # Errors
/// An unreadable weights file.
pub fn raters<'a>(scorers: impl IntoIterator<Item = &'a ScorerSpec>) -> Result<Vec<Labeller>> {
    let mut found = Vec::new();
    for scorer in scorers {
        if let Some(file) = scorer.weights()?.filter(|file| file.is_file()) {
            let weights_sha256 = hashes::of_file(&file)?;
            found.push(Labeller { judge: scorer.name.clone(), weights_sha256, taught: Taught::Rewards });
        }
    }
    Ok(found)
}

/// A warning if a scorer has the weights of a labeller, so that its numbers may favour the model.
///
/// # Errors
/// An unreadable weights file.
pub fn own_labels(scorer: &ScorerSpec, labellers: &[Labeller]) -> Result<Option<String>> {
    if labellers.is_empty() {
        return Ok(None);
    }
    let Some(weights) = scorer.weights()?.map(|file| hashes::of_file(&file)).transpose()? else { return Ok(None) };
    let Some(labeller) = labellers.iter().find(|labeller| labeller.weights_sha256 == weights) else { return Ok(None) };
    let did = match &labeller.taught {
        Taught::Data(data) => {
            format!("labelled the training data ({} follows {:?}, the same weights)", data.display(), labeller.judge)
        }
        Taught::Rewards => {
            format!("rated the samples that the model was trained on (reward.scorers, {:?})", labeller.judge)
        }
    };
    Ok(Some(format!(
        "the scorer \"{}\" ({}) also {did}. The model learnt its errors, and its figures cannot show them. Use a scorer that \
         labelled nothing",
        scorer.name,
        scorer.path.display()
    )))
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
    /// The judges that count under `labels`.
    fn judges(&self, labels: &Labels) -> BTreeSet<&String> {
        match labels {
            Labels::Given => self.label.iter().flat_map(Judges::names).collect(),
            scored => {
                let of_scorers = scored.scorers().iter().filter_map(|scorer| self.scores.get(scorer));
                of_scorers.flat_map(Judges::names).collect()
            }
        }
    }
}
