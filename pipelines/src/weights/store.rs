//! The tensors of a component by name, from one file or from the shards of an index.

use crate::error::{Error, Result};
use crate::weights::file::{TensorFile, is_pickle_name, pickle_hint};
use crate::weights::original::Form;
use serde::Deserialize;
use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use tch::{Kind, Tensor};

/// All tensors of one component. Names can be changed before a network reads them, so that files with older names
/// work like new ones.
pub struct WeightStore {
    path: PathBuf,
    entries: BTreeMap<String, Source>,
}

struct Source {
    file: Arc<TensorFile>,
    stored_name: String,
    form: Form,
}

#[derive(Deserialize)]
struct Index {
    weight_map: BTreeMap<String, String>,
}

impl WeightStore {
    /// Opens the weights of a component folder: `<stem>.safetensors`, its shards, or their `.fp16` variants, in this
    /// order.
    pub fn open_component(dir: &Path, stem: &str) -> Result<Self> {
        Self::open_variant(dir, stem, None)
    }

    /// Opens one variant of a component folder, `<stem>.<variant>.safetensors` or its shards; None: `open_component`.
    pub fn open_variant(dir: &Path, stem: &str, variant: Option<&str>) -> Result<Self> {
        let files = component_files(dir, stem, variant)?;
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

    /// Tensors of a file under other names: (name, the file's name, conversion). Names absent from the file are left
    /// out; a loader then lists them as missing.
    pub fn of_places(file: &Arc<TensorFile>, places: impl IntoIterator<Item = (String, String, Form)>) -> Self {
        let there = places.into_iter().filter(|(_, stored_name, _)| file.shape(stored_name).is_some());
        let entries =
            there.map(|(name, stored_name, form)| (name, Source { file: file.clone(), stored_name, form })).collect();
        Self { path: file.path().to_path_buf(), entries }
    }

    fn add_file(&mut self, path: &Path) -> Result<()> {
        let file = Arc::new(TensorFile::open(path)?);
        for name in file.names() {
            let source = Source { file: file.clone(), stored_name: name.to_string(), form: Form::Same };
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
                let problem = format!("it lists {name} in {shard}, but that file lacks it");
                return Err(Error::unusable(index, problem, "download the shards and their index again"));
            }
            self.entries.insert(name.clone(), Source { file: file.clone(), stored_name: name, form: Form::Same });
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

    /// Renames every tensor to the result of `rename`; `None` leaves the tensor out.
    pub fn rename(&mut self, rename: impl Fn(&str) -> Option<String>) {
        let entries = std::mem::take(&mut self.entries);
        self.entries = entries.into_iter().filter_map(|(name, source)| Some((rename(&name)?, source))).collect();
    }

    pub fn shape(&self, name: &str) -> Option<Vec<i64>> {
        let source = self.entries.get(name)?;
        Some(source.form.shape_of(source.file.shape(&source.stored_name)?))
    }

    /// The stored kind of a tensor; None for an absent tensor or kind.
    pub fn kind(&self, name: &str) -> Option<Kind> {
        let source = self.entries.get(name)?;
        source.file.kind(&source.stored_name)
    }

    /// The type of a tensor without floating point numbers.
    pub fn not_floating(&self, name: &str) -> Option<String> {
        let source = self.entries.get(name)?;
        source.file.not_floating(&source.stored_name)
    }

    /// A copy of one tensor on the CPU, in its stored kind.
    pub fn tensor(&self, name: &str) -> Result<Tensor> {
        match self.entries.get(name) {
            Some(source) => source.form.tensor_of(source.file.tensor(&source.stored_name)?),
            None => Err(Error::unusable(&self.path, format!("there is no tensor {name}"), "use the whole model")),
        }
    }
}

/// The weight files of a component: `dir` itself if it is a file, else the folder's one safetensors file, or its
/// index and shards. Without a variant the plain files are preferred to fp16; a given variant must exist.
pub fn component_files(dir: &Path, stem: &str, variant: Option<&str>) -> Result<Vec<PathBuf>> {
    if dir.is_file() {
        return Ok(vec![dir.to_path_buf()]);
    }
    let tried: &[Option<&str>] = if variant.is_some() { &[variant] } else { &[None, Some("fp16")] };
    for variant in tried {
        let infix = variant.map(|v| format!(".{v}")).unwrap_or_default();
        let whole = dir.join(format!("{stem}{infix}.safetensors"));
        if whole.is_file() {
            return Ok(vec![whole]);
        }
        let index = dir.join(format!("{stem}.safetensors.index{infix}.json"));
        if index.is_file() {
            let shards: BTreeSet<String> = read_index(&index)?.weight_map.into_values().collect();
            let shards = shards.iter().map(|shard| dir.join(shard));
            return Ok(std::iter::once(index.clone()).chain(shards).collect());
        }
    }
    match variant {
        Some(variant) => Err(without_variant(dir, stem, variant)),
        None => Err(without_weights(dir, &format!("{stem}.safetensors"))),
    }
}

fn read_index(path: &Path) -> Result<Index> {
    let text = std::fs::read_to_string(path).map_err(|e| Error::io("read", path, e))?;
    let index: Index = serde_json::from_str(&text).map_err(|source| Error::Json { path: path.into(), source })?;
    for shard in index.weight_map.values() {
        // A shard must be beside its index: a path in the index could name any file of the machine.
        if Path::new(shard).file_name() != Some(std::ffi::OsStr::new(shard)) {
            let problem = format!("the shard name {shard:?} is a path");
            return Err(Error::unusable(path, problem, "name files in the index's own folder"));
        }
    }
    Ok(index)
}

fn file_names(dir: &Path) -> Result<Vec<String>> {
    let entries = std::fs::read_dir(dir).map_err(|e| Error::io("read the folder", dir, e))?;
    Ok(entries.flatten().filter_map(|e| e.file_name().into_string().ok()).collect())
}

fn without_variant(dir: &Path, stem: &str, variant: &str) -> Error {
    let names = match file_names(dir) {
        Ok(names) => names,
        Err(error) => return error,
    };
    let mut there: Vec<&String> = names.iter().filter(|n| n.starts_with(stem) && n.contains(".safetensors")).collect();
    there.sort();
    let hint = match there[..] {
        [] => "there are no safetensors weights: download the component again".to_string(),
        _ => format!("there is {there:?}: leave the variant out, or name one that is there"),
    };
    Error::missing(dir, format!("{stem}.{variant}.safetensors"), hint)
}

fn without_weights(dir: &Path, wanted: &str) -> Error {
    let names = match file_names(dir) {
        Ok(names) => names,
        Err(error) => return error,
    };
    let pickle = names.iter().find(|n| is_pickle_name(Path::new(n)));
    let hint = match pickle {
        Some(pickle) => format!("{pickle} is a pickle. {}", pickle_hint(Path::new(pickle))),
        None => "download the component again (single .safetensors file, shards with their index, or .fp16)".into(),
    };
    Error::missing(dir, wanted, hint)
}
