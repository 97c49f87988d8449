//! A scorer and its files: an entry of [reward], or `--scorer NAME[=PATH]`.

use super::registry::{Unknown, declaration};
use super::scorer::{Declaration, Opening, Scorer};
use crate::machine::hashes::{self, HashMemory};
use anyhow::Result;
use pipelines::families::ModelFolder;
use pipelines::weights::LoadOptions;
use serde::{Deserialize, Serialize};
use serde_json::json;
use std::path::{Path, PathBuf};
use std::str::FromStr;

/// A scorer by name with its files.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ScorerSpec {
    pub name: String,
    /// Empty for a scorer without files.
    #[serde(default, skip_serializing_if = "is_empty")]
    pub path: PathBuf,
}

/// A measure of a scorer.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Rated {
    #[serde(flatten)]
    pub scorer: ScorerSpec,
    /// `None`: the first one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub measure: Option<String>,
}

fn is_empty(path: &Path) -> bool {
    path.as_os_str().is_empty()
}

impl ScorerSpec {
    /// Its declaration.
    ///
    /// # Errors
    /// A name that is not registered.
    pub fn declaration(&self) -> Result<&'static Declaration, Unknown> {
        declaration(&self.name)
    }

    /// The weights file; `None`: the scorer has none.
    ///
    /// # Errors
    /// A name that is not registered.
    pub fn weights(&self) -> Result<Option<PathBuf>> {
        let files = self.declaration()?.files.as_ref();
        Ok(files.and_then(|files| files.weights).map(|weights| self.path.join(weights)))
    }

    /// All files that affect its numbers, weights last.
    ///
    /// # Errors
    /// A name that is not registered; an unreadable list of files.
    pub fn files(&self) -> Result<Vec<PathBuf>> {
        let others = match &self.declaration()?.files {
            Some(files) => (files.others)(&self.path)?,
            None => Vec::new(),
        };
        Ok(others.into_iter().chain(self.weights()?).collect())
    }

    /// Hash of everything that affects the numbers of the opened scorer. `vae`: files of the VAE of the model, for a scorer
    /// that reads it.
    ///
    /// # Errors
    /// Unreadable files.
    pub fn fingerprint(&self, scorer: &dyn Scorer, vae: &[PathBuf], memory: &mut HashMemory) -> Result<String> {
        let mut files = self.files()?;
        if self.declaration()?.reads_vae {
            files.extend(vae.iter().cloned());
        }
        let files = memory.of_files(&files)?;
        let measures: Vec<_> = scorer.measures().iter().map(|measure| &measure.name).collect();
        let mut made_of =
            json!({"scorer": self.name, "measures": measures, "files": files, "program": env!("CARGO_PKG_VERSION")});
        let identity = scorer.identity();
        if !identity.is_empty() {
            made_of["identity"] = identity.into();
        }
        Ok(hashes::of_bytes(made_of.to_string().as_bytes()))
    }

    /// Opens it. `model`: the model whose pictures are rated.
    ///
    /// # Errors
    /// Files that are missing or damaged.
    pub fn open(&self, options: LoadOptions, model: Option<&ModelFolder>) -> Result<Box<dyn Scorer>> {
        (self.declaration()?.open)(&Opening { path: &self.path, options, model })
    }
}

impl FromStr for ScorerSpec {
    type Err = String;

    /// `NAME` or `NAME=PATH`
    fn from_str(text: &str) -> Result<Self, String> {
        let (name, path) = text.split_once('=').map_or((text, None), |(name, path)| (name, Some(path)));
        let declaration = declaration(name).map_err(|unknown| format!("\"{name}\": {unknown}"))?;
        let path = match (&declaration.files, path.filter(|path| !path.is_empty())) {
            (Some(_), Some(path)) => PathBuf::from(path),
            (Some(files), None) => return Err(format!("\"{name}\" needs its files: {name}=PATH, a {}", files.form)),
            (None, Some(path)) => return Err(format!("\"{name}\" reads no files: leave out \"={path}\"")),
            (None, None) => PathBuf::new(),
        };
        Ok(Self { name: name.into(), path })
    }
}
