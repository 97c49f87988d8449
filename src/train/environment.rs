//! environment.json: versions, hashes of program, model and data, device. `--resume` compares contents with it.

use super::opened::Opened;
use crate::machine::devices::Device;
use crate::machine::files::write_atomically;
use crate::machine::hashes::{self, FileHashes, HashMemory};
use crate::scorers::ScorerSpec;
use anyhow::{Context, Result};
use pipelines::Dtype;
use pipelines::lora::Lora;
use pipelines::weights::component_files;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::path::Path;

pub const ENVIRONMENT: &str = "environment.json";

/// Hashes of all inputs of a run except the images, by configuration key.
pub type Contents = BTreeMap<String, Content>;

/// Hashes of what one configuration key names.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum Content {
    /// A file, or values.
    One(String),
    /// The files of each scorer.
    Scorers(Vec<Vec<String>>),
    /// Files in their order.
    Files(Vec<String>),
    /// A folder's files by path.
    Folder(FileHashes),
}

/// The hashes of a run's inputs.
///
/// # Errors
/// A file that cannot be read.
pub fn contents(opened: &Opened) -> Result<Contents> {
    let config = &opened.config;
    let mut memory = HashMemory::open(&config.data.cache_dir);
    let mut out = Contents::new();
    let (folder, files) = (&opened.folder, opened.folder.files()?);
    out.insert("model.path".into(), Content::Folder(memory.below(folder.path(), &files)?));
    for (key, path) in [("model.unet", &config.model.unet), ("model.vae", &config.model.vae)] {
        if let Some(path) = path {
            let mut files = component_files(path, "diffusion_pytorch_model", None)?;
            if path.is_dir() {
                files.push(path.join("config.json"));
            }
            out.insert(key.into(), Content::Files(memory.of_files(files)?));
        }
    }
    // With a validation file the hash of the index is that of both.
    if config.data.items.is_some() {
        out.insert("data.path".into(), Content::One(opened.items.index_sha256.clone()));
    }
    if config.rollout.is_some() {
        out.insert("rollout.prompts".into(), of_texts(&opened.prompts)?);
    }
    if !opened.held_out.is_empty() {
        out.insert("validate.prompts".into(), of_texts(&opened.held_out)?);
    }
    if let Some(reward) = &config.reward {
        let weighed: Vec<&ScorerSpec> = reward.scorers.iter().map(|weighted| &weighted.rated.scorer).collect();
        let watched = reward.watch.iter().map(|rated| &rated.scorer).collect();
        let judges = reward.pairwise.iter().map(|judge| &judge.rated.scorer).collect();
        for (key, scorers) in [("reward.scorers", weighed), ("reward.watch", watched), ("reward.pairwise", judges)] {
            let files = |scorer: &&ScorerSpec| {
                let hashes = memory.of_files(scorer.files()?);
                hashes.with_context(|| format!("{key}: cannot open the scorer \"{}\"", scorer.name))
            };
            out.insert(key.into(), Content::Scorers(scorers.iter().map(files).collect::<Result<_>>()?));
        }
    }
    if config.validate.as_ref().is_some_and(|validate| validate.path().is_some()) {
        out.insert("validate.path".into(), Content::One(opened.items.index_sha256.clone()));
    }
    if let Some(path) = config.lora.as_ref().and_then(|l| l.init.as_ref()) {
        out.insert("lora.init".into(), Content::One(memory.of_file(&Lora::file_in(path))?));
    }
    memory.save();
    Ok(out)
}

fn of_texts(texts: &[String]) -> Result<Content> {
    Ok(Content::One(hashes::of_bytes(&serde_json::to_vec(texts)?)))
}

/// Hash of the data: of its index and of the images read, with the extent of the latter.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct DataHash {
    pub sha256: String,
    /// The images of steps 1 to this one,
    pub steps: u64,
    /// and those of the validation.
    pub validated: bool,
}

/// Writes environment.json into the run folder; `data` is known once the images are read.
pub fn write(run: &Path, opened: &Opened, contents: &Contents, data: Option<&DataHash>) -> Result<()> {
    let program = std::env::current_exe().context("cannot find the running program")?;
    let mut memory = HashMemory::open(&opened.config.data.cache_dir);
    let environment = Environment {
        diffpref: env!("CARGO_PKG_VERSION"),
        libtorch: diffpref_native::LIBTORCH_VERSION,
        program_sha256: memory.of_file(&program)?,
        contents,
        data,
        device: opened.config.model.device,
        dtype: opened.config.model.dtype,
        threads: opened.config.train.threads,
        cpu_capability: cpu_capability(),
        family: opened.folder.family().name(),
    };
    memory.save();
    write_atomically(&run.join(ENVIRONMENT), &serde_json::to_vec_pretty(&environment)?)
}

/// environment.json
#[derive(Serialize)]
struct Environment<'a> {
    diffpref: &'static str,
    libtorch: &'static str,
    program_sha256: String,
    contents: &'a Contents,
    data: Option<&'a DataHash>,
    device: Device,
    dtype: Dtype,
    threads: usize,
    cpu_capability: &'static str,
    family: &'static str,
}

/// Contents and data in a run folder's environment.json.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub struct Recorded {
    pub contents: Contents,
    pub data: Option<DataHash>,
}

/// The record of the run in `run`; empty if the file is missing or damaged.
pub fn recorded(run: &Path) -> Recorded {
    let text = std::fs::read(run.join(ENVIRONMENT)).unwrap_or_default();
    serde_json::from_slice(&text).unwrap_or_default()
}

/// float32 randn differs by up to 2e-6 between processors with and without AVX2: bytes are promised per machine.
pub fn cpu_capability() -> &'static str {
    #[cfg(target_arch = "x86_64")]
    if std::is_x86_feature_detected!("avx2") {
        return "avx2";
    }
    "default"
}
