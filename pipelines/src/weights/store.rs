//! The tensors of a component by name, over one file or over the shards of an index.

use crate::error::{Error, Result};
use crate::weights::TensorFile;
use serde::Deserialize;
use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use tch::Tensor;

/// All tensors of one component. A name can be changed before a network asks for it, so that files with older
/// names read like new ones.
pub struct WeightStore {
    path: PathBuf,
    entries: BTreeMap<String, Source>,
}

struct Source {
    file: Arc<TensorFile>,
    stored_name: String,
}

#[derive(Deserialize)]
struct Index {
    weight_map: BTreeMap<String, String>,
}

impl WeightStore {
    /// Opens the weights of a component folder: `<stem>.safetensors`, its shards, or the same as `.fp16`, in this order.
    pub fn open_component(dir: &Path, stem: &str) -> Result<Self> {
        let files = component_files(dir, stem)?;
        let mut store = Self { path: dir.to_path_buf(), entries: BTreeMap::new() };
        let is_index = |path: &PathBuf| path.extension().is_some_and(|e| e == "json");
        match files.iter().find(|path| is_index(path)) {
            Some(index) => store.add_shards(dir, index)?,
            None => {
                for file in &files {
                    store.add_file(file)?;
                    store.path.clone_from(file);
                }
            }
        }
        Ok(store)
    }

    /// Opens one file.
    pub fn from_file(path: &Path) -> Result<Self> {
        let mut store = Self { path: path.to_path_buf(), entries: BTreeMap::new() };
        store.add_file(path)?;
        Ok(store)
    }

    fn add_file(&mut self, path: &Path) -> Result<()> {
        let file = Arc::new(TensorFile::open(path)?);
        for name in file.names() {
            let source = Source { file: file.clone(), stored_name: name.to_string() };
            self.entries.insert(name.to_string(), source);
        }
        Ok(())
    }

    fn add_shards(&mut self, dir: &Path, index: &Path) -> Result<()> {
        let mut files = BTreeMap::new();
        for (name, shard) in read_index(index)?.weight_map {
            let file = match files.get(&shard) {
                Some(file) => file,
                None => &*files.entry(shard.clone()).or_insert(Arc::new(TensorFile::open(&dir.join(&shard))?)),
            };
            if file.shape(&name).is_none() {
                let problem = format!("it says that {shard} holds {name}, which that file does not");
                return Err(Error::unusable(index, problem, "download the shards and their index again"));
            }
            self.entries.insert(name.clone(), Source { file: file.clone(), stored_name: name });
        }
        Ok(())
    }

    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The names of all tensors, sorted.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.entries.keys().map(String::as_str)
    }

    /// Gives every tensor the name that `rename` returns; `None` leaves the tensor out.
    pub fn rename(&mut self, rename: impl Fn(&str) -> Option<String>) {
        let entries = std::mem::take(&mut self.entries);
        self.entries = entries.into_iter().filter_map(|(name, source)| Some((rename(&name)?, source))).collect();
    }

    pub fn shape(&self, name: &str) -> Option<&[i64]> {
        let source = self.entries.get(name)?;
        source.file.shape(&source.stored_name)
    }

    /// The type of a tensor that holds no floating point numbers.
    pub fn not_floating(&self, name: &str) -> Option<String> {
        let source = self.entries.get(name)?;
        source.file.not_floating(&source.stored_name)
    }

    /// A copy of one tensor on the CPU, in the kind it is stored in.
    pub fn tensor(&self, name: &str) -> Result<Tensor> {
        match self.entries.get(name) {
            Some(source) => source.file.tensor(&source.stored_name),
            None => Err(Error::unusable(&self.path, format!("there is no tensor {name}"), "use the whole model")),
        }
    }
}

/// The weight files of a component folder: one safetensors file, or an index and its shards.
pub fn component_files(dir: &Path, stem: &str) -> Result<Vec<PathBuf>> {
    let whole = [format!("{stem}.safetensors"), format!("{stem}.fp16.safetensors")];
    let index = [format!("{stem}.safetensors.index.json"), format!("{stem}.safetensors.index.fp16.json")];
    for (whole, index) in whole.iter().zip(&index) {
        if dir.join(whole).is_file() {
            return Ok(vec![dir.join(whole)]);
        }
        let index = dir.join(index);
        if index.is_file() {
            let shards: BTreeSet<String> = read_index(&index)?.weight_map.into_values().collect();
            let shards = shards.iter().map(|shard| dir.join(shard));
            return Ok(std::iter::once(index.clone()).chain(shards).collect());
        }
    }
    Err(without_weights(dir, &whole[0]))
}

fn read_index(path: &Path) -> Result<Index> {
    let text = std::fs::read_to_string(path).map_err(|e| Error::io("read", path, e))?;
    let index: Index = serde_json::from_str(&text).map_err(|source| Error::Json { path: path.into(), source })?;
    for shard in index.weight_map.values() {
        // A shard lies beside its index: a path in the index could name any file of the machine.
        if Path::new(shard).file_name() != Some(std::ffi::OsStr::new(shard)) {
            let problem = format!("the shard name {shard:?} is a path");
            return Err(Error::unusable(path, problem, "name files in the index's own folder"));
        }
    }
    Ok(index)
}

fn without_weights(dir: &Path, wanted: &str) -> Error {
    let names: Vec<String> = match std::fs::read_dir(dir) {
        Ok(entries) => entries.flatten().filter_map(|e| e.file_name().into_string().ok()).collect(),
        Err(source) => return Error::io("read the folder", dir, source),
    };
    let pickle = names.iter().find(|n| [".bin", ".ckpt", ".pt", ".pth"].iter().any(|end| n.ends_with(end)));
    let hint = match pickle {
        Some(pickle) => format!(
            "{pickle} is a pickle, which can run code and is never loaded. Convert the model once with Python, on a \
             machine where you trust it: DiffusionPipeline.from_pretrained(MODEL).save_pretrained(NEW, \
             safe_serialization=True), and use the folder NEW"
        ),
        None => "download the component again (single .safetensors file, shards with their index, or .fp16)".into(),
    };
    Error::missing(dir, wanted, hint)
}
