//! Choice of the required files of a hub model: the descriptions of all parts, and one form of each part's weights.

use crate::error::{Error, Result};
use crate::weights::component_files;
use std::path::{Path, PathBuf};

const INDEX: &str = "model_index.json";
/// Folders of a model, and the names of their weight files; None without weights.
const PARTS: [(&str, Option<&str>); 7] = [
    ("scheduler", None),
    ("text_encoder", Some("model")),
    ("text_encoder_2", Some("model")),
    ("tokenizer", None),
    ("tokenizer_2", None),
    ("unet", Some("diffusion_pytorch_model")),
    ("vae", Some("diffusion_pytorch_model")),
];

/// The required files of a model.
pub struct Wanted {
    /// Where the files are, for messages.
    from: String,
    names: Vec<String>,
    variant: Option<String>,
    /// The one file of a repository that holds a single-file checkpoint.
    single: Option<String>,
}

impl Wanted {
    /// Chooses among the file names of a repository.
    ///
    /// # Errors
    /// Neither a model in the diffusers layout nor exactly one single-file checkpoint.
    pub fn among(from: &str, names: Vec<String>, variant: Option<&str>) -> Result<Self> {
        // Names from a server become paths on this machine.
        let inside = |name: &String| name.split('/').all(|part| !part.is_empty() && part != "." && part != "..");
        let names: Vec<String> = names.into_iter().filter(inside).collect();
        let variant = variant.map(String::from);
        let wanted = Self { from: from.to_string(), names, variant, single: None };
        if wanted.has(INDEX) {
            return Ok(wanted);
        }
        let single: Vec<&String> =
            wanted.names.iter().filter(|n| !n.contains('/') && n.ends_with(".safetensors")).collect();
        match single[..] {
            [one] => Ok(Self { single: Some(one.clone()), ..wanted }),
            [] => {
                let pickle = wanted.names.iter().find(|n| n.ends_with(".ckpt") || n.ends_with(".bin"));
                let found = pickle.map_or("no weights that are known here".into(), |n| format!("only the pickle {n}"));
                Err(Error::Invalid(format!(
                    "{from} has no {INDEX} and no .safetensors file, {found}; a pickle is never loaded: convert it to \
                     safetensors where you trust it, and give the file"
                )))
            }
            _ => Err(Error::Invalid(format!(
                "{from} is no model in the diffusers layout and has several checkpoints ({}); download one of them, and give \
                 its path",
                single.iter().map(|n| n.as_str()).collect::<Vec<_>>().join(", ")
            ))),
        }
    }

    fn has(&self, name: &str) -> bool {
        self.names.iter().any(|n| n == name)
    }

    /// Descriptions: configurations, tokenizers, and the indices of sharded weights.
    pub fn texts(&self) -> Vec<&str> {
        if self.single.is_some() {
            return Vec::new();
        }
        let is_text = |name: &&String| match name.split_once('/') {
            None => *name == INDEX,
            Some((folder, file)) => {
                let known = PARTS.iter().any(|(part, _)| *part == folder) && !file.contains('/');
                known && [".json", ".txt"].iter().any(|end| file.ends_with(end))
            }
        };
        self.names.iter().filter(is_text).map(String::as_str).collect()
    }

    /// Weight files, once the descriptions are in `snapshot`: the indices name the shards.
    pub fn weights(&self, snapshot: &Path) -> Result<Vec<String>> {
        if let Some(single) = &self.single {
            return Ok(vec![single.clone()]);
        }
        let mut weights = Vec::new();
        for (part, stem) in PARTS {
            let there = self.names.iter().any(|name| name.split_once('/').is_some_and(|(folder, _)| folder == part));
            if let (Some(stem), true) = (stem, there) {
                weights.extend(self.weights_of(part, stem, snapshot)?);
            }
        }
        Ok(weights)
    }

    fn weights_of(&self, part: &str, stem: &str, snapshot: &Path) -> Result<Vec<String>> {
        let asked = self.variant.as_deref();
        let tried: &[Option<&str>] = if asked.is_some() { &[asked] } else { &[None, Some("fp16")] };
        for variant in tried {
            let infix = variant.map(|v| format!(".{v}")).unwrap_or_default();
            let whole = format!("{part}/{stem}{infix}.safetensors");
            if self.has(&whole) {
                return Ok(vec![whole]);
            }
            if self.has(&format!("{part}/{stem}.safetensors.index{infix}.json")) {
                let files = component_files(&snapshot.join(part), stem, *variant)?;
                let name = |file: &PathBuf| Some(format!("{part}/{}", file.file_name()?.to_str()?));
                return Ok(files.iter().filter_map(name).collect());
            }
        }
        let start = format!("{part}/{stem}");
        let there: Vec<&str> = self.names.iter().filter(|n| n.starts_with(&start)).map(String::as_str).collect();
        let what = asked.map(|v| format!(" of the variant {v}")).unwrap_or_default();
        Err(Error::Invalid(format!(
            "{} has no safetensors weights{what} in {part}/ (there is: {}); name another variant, or convert the model once \
             with Python where you trust it: DiffusionPipeline.from_pretrained(MODEL).save_pretrained(NEW, \
             safe_serialization=True)",
            self.from,
            if there.is_empty() { "nothing".to_string() } else { there.join(", ") }
        )))
    }

    /// The path to open: the snapshot, or the one file in it.
    pub fn in_snapshot(&self, snapshot: &Path) -> PathBuf {
        self.single.as_ref().map_or_else(|| snapshot.to_path_buf(), |name| snapshot.join(name))
    }
}

/// The path to open in a cached snapshot: a model folder, or the only checkpoint in it.
pub fn of_snapshot(snapshot: &Path) -> Result<PathBuf> {
    let entries = std::fs::read_dir(snapshot).map_err(|e| Error::io("read the folder", snapshot, e))?;
    let names = entries.flatten().filter_map(|entry| entry.file_name().into_string().ok()).collect();
    Ok(Wanted::among(&snapshot.display().to_string(), names, None)?.in_snapshot(snapshot))
}
