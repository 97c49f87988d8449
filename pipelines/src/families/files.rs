//! The files of a model: those of a folder in the diffusers layout, or the equivalent view of a single-file
//! checkpoint. Readers of a model do not know which of the two it is.

use super::single_file::SingleFile;
use crate::error::{Error, Result};
use crate::models::ConfigFile;
use crate::schedulers::SchedulerConfig;
use crate::weights::{WeightStore, component_files, write_file};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// Descriptions and weights of a model by component.
#[derive(Debug)]
pub enum ModelFiles {
    Folder {
        path: PathBuf,
        /// Variant of the weight files, for example `fp16`.
        variant: Option<String>,
    },
    Single(Box<SingleFile>),
}

impl ModelFiles {
    /// Opens a folder or a single file.
    pub fn open(path: &Path, variant: Option<&str>) -> Result<Self> {
        match (path.is_dir(), path.is_file(), variant) {
            (true, ..) => Ok(Self::Folder { path: path.to_path_buf(), variant: variant.map(String::from) }),
            (_, true, None) => Ok(Self::Single(Box::new(SingleFile::open(path)?))),
            (_, true, Some(variant)) => {
                let problem = format!("this is one file, and variant {variant:?} is for folders");
                Err(Error::unusable(path, problem, "leave the variant out"))
            }
            _ => {
                let hint = "give a model folder in the diffusers layout, or a single .safetensors file";
                Err(Error::unusable(path, "there is no such folder or file", hint))
            }
        }
    }

    pub fn path(&self) -> &Path {
        match self {
            Self::Folder { path, .. } => path,
            Self::Single(file) => file.path(),
        }
    }

    /// Whether the component exists.
    pub fn has(&self, component: &str) -> bool {
        match self {
            Self::Folder { path, .. } => path.join(component).is_dir(),
            Self::Single(file) => file.texts().any(|name| name.split_once('/').is_some_and(|(c, _)| c == component)),
        }
    }

    /// The text of a description, for example `unet/config.json`; None if absent.
    pub fn text(&self, name: &str) -> Result<Option<String>> {
        match self {
            Self::Folder { path, .. } => match std::fs::read_to_string(path.join(name)) {
                Ok(text) => Ok(Some(text)),
                Err(e) if e.kind() == std::io::ErrorKind::NotFound => Ok(None),
                Err(e) => Err(Error::io("read", &path.join(name), e)),
            },
            Self::Single(file) => Ok(file.text(name)),
        }
    }

    /// A component's config.json.
    pub fn config(&self, component: &str) -> Result<ConfigFile> {
        let name = format!("{component}/config.json");
        match self.text(&name)? {
            Some(text) => ConfigFile::parse(&self.path().join(name), &text),
            None => {
                let hint = "it states the shape of the network: download the component again";
                Err(Error::missing(&self.path().join(component), "config.json", hint))
            }
        }
    }

    /// scheduler_config.json.
    pub fn scheduler(&self) -> Result<SchedulerConfig> {
        let name = "scheduler/scheduler_config.json";
        match self.text(name)? {
            Some(text) => SchedulerConfig::parse(&self.path().join(name), &text),
            None => {
                let dir = self.path().join("scheduler");
                Err(Error::missing(&dir, "scheduler_config.json", "it states the noise schedule of the model"))
            }
        }
    }

    /// The tensors of a component under diffusers' names; `stem` is the name of its weight files.
    pub fn store(&self, component: &str, stem: &str) -> Result<WeightStore> {
        match self {
            Self::Folder { path, variant } => {
                WeightStore::open_variant(&path.join(component), stem, variant.as_deref())
            }
            Self::Single(file) => Ok(file.store(component)),
        }
    }

    /// The files of a component's weights: each shard and the index.
    pub fn weight_files(&self, component: &str, stem: &str) -> Result<Vec<PathBuf>> {
        match self {
            Self::Folder { path, variant } => component_files(&path.join(component), stem, variant.as_deref()),
            Self::Single(file) => Ok(vec![file.path().to_path_buf()]),
        }
    }

    /// The descriptions of a component, by the names of their files.
    pub fn texts_of(&self, component: &str) -> Result<BTreeMap<String, String>> {
        let mut texts = BTreeMap::new();
        for name in self.text_names(component)? {
            if let Some(text) = self.text(&format!("{component}/{name}"))? {
                texts.insert(name, text);
            }
        }
        Ok(texts)
    }

    fn text_names(&self, component: &str) -> Result<Vec<String>> {
        let Self::Folder { path, .. } = self else {
            let Self::Single(file) = self else { return Ok(Vec::new()) };
            let inside = |name: &str| name.strip_prefix(component)?.strip_prefix('/').map(String::from);
            return Ok(file.texts().filter_map(inside).collect());
        };
        let dir = path.join(component);
        let entries = std::fs::read_dir(&dir).map_err(|e| Error::io("read the folder", &dir, e))?;
        let names = entries.flatten().filter_map(|entry| entry.file_name().into_string().ok());
        // An index of shards describes weight files, which are written as one file.
        let text = |name: &String| {
            [".json", ".txt"].iter().any(|end| name.ends_with(end)) && !name.contains(".safetensors.index")
        };
        Ok(names.filter(text).collect())
    }

    /// Writes a component's descriptions into the folder `to`.
    pub fn write_texts(&self, component: &str, to: &Path) -> Result<()> {
        std::fs::create_dir_all(to).map_err(|e| Error::io("create the folder", to, e))?;
        for (name, text) in self.texts_of(component)? {
            write_file(&to.join(name), |out| out.write_all(text.as_bytes()))?;
        }
        Ok(())
    }
}
