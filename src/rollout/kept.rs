//! The kept part of an iteration: exactly the states and transitions that training reads.

use crate::objectives::Unit;
use anyhow::{Context, Result};
use pipelines::weights::{TensorFile, write_safetensors};
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, HashMap};
use std::path::{Path, PathBuf};
use tch::{Device, Kind, Tensor};

/// A step of a trajectory, or of a candidate.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Kept {
    /// Place of its prompt among those of the iteration.
    pub prompt: usize,
    /// Call of the sampler.
    pub call: usize,
    /// Rows of x_t and x_p in the store.
    pub from: usize,
    pub to: usize,
    /// log p_other(x_p | x_t)
    pub log_prob: f64,
    /// Row of the start model's guided prediction in the store, for methods that need it.
    pub start: Option<usize>,
    /// Row of mu_old, the mean of the step as sampled, for methods that need it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mean: Option<usize>,
}

/// The unit of one loss.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct KeptUnit {
    pub id: String,
    /// Indices of kept transitions, by member.
    pub members: Vec<Vec<usize>>,
    pub advantage: f64,
    pub scores: Vec<f64>,
    /// Units of a group are trained in succession.
    pub group: usize,
}

impl KeptUnit {
    /// The unit for an objective; `rows`: places of its transitions in the micro-batch.
    pub fn as_seen(&self, rows: &HashMap<usize, i64>) -> Unit {
        let members = self.members.iter().map(|member| member.iter().map(|t| rows[t]).collect());
        Unit { id: self.id.clone(), members: members.collect(), advantage: self.advantage, scores: self.scores.clone() }
    }
}

/// Rows of latents, `[C, h, w]` float32 each: in memory, or in files of the run folder.
#[derive(Default)]
pub struct Store {
    memory: Vec<Tensor>,
    /// `None`: everything stays in memory.
    folder: Option<PathBuf>,
    /// First row of each file.
    files: BTreeMap<usize, TensorFile>,
    written: usize,
}

/// File and row of a row number.
fn row_name(row: usize) -> String {
    format!("{row:08}")
}

impl Store {
    /// An empty store; `folder`: its files, emptied first.
    pub fn new(folder: Option<PathBuf>) -> Result<Self> {
        if let Some(folder) = &folder {
            if folder.exists() {
                std::fs::remove_dir_all(folder).with_context(|| format!("cannot empty {}", folder.display()))?;
            }
            std::fs::create_dir_all(folder).with_context(|| format!("cannot make {}", folder.display()))?;
        }
        Ok(Self { folder, ..Self::default() })
    }

    /// Adds a row `[C, h, w]` and returns its number.
    pub fn push(&mut self, row: &Tensor) -> usize {
        // A copy: a view would keep the whole batch alive.
        let row = row.to_device(Device::Cpu).to_kind(Kind::Float).contiguous().copy();
        self.memory.push(row);
        self.written + self.memory.len() - 1
    }

    /// Moves rows in memory to a file, if the store has a folder.
    pub fn flush(&mut self) -> Result<()> {
        let Some(folder) = self.folder.as_ref().filter(|_| !self.memory.is_empty()) else { return Ok(()) };
        let file = folder.join(format!("part-{:06}.safetensors", self.files.len()));
        write_safetensors(&file, &self.named(), &[("format", "pt")])?;
        self.files.insert(self.written, TensorFile::open(&file)?);
        self.written += self.memory.len();
        self.memory.clear();
        Ok(())
    }

    fn named(&self) -> Vec<(String, Tensor)> {
        let named = |(i, row): (usize, &Tensor)| (row_name(self.written + i), row.shallow_clone());
        self.memory.iter().enumerate().map(named).collect()
    }

    /// Row `row`, `[C, h, w]` float32 on the CPU.
    pub fn row(&self, row: usize) -> Result<Tensor> {
        if let Some(held) = row.checked_sub(self.written).and_then(|i| self.memory.get(i)) {
            return Ok(held.shallow_clone());
        }
        let file = self.files.range(..=row).next_back().with_context(|| format!("row {row} was not kept"))?;
        Ok(file.1.tensor(&row_name(row))?)
    }

    /// Writes a store in memory into a file of a checkpoint.
    pub fn save(&self, file: &Path) -> Result<()> {
        Ok(write_safetensors(file, &self.named(), &[("format", "pt")])?)
    }

    /// Reads a file of `save`.
    pub fn load(file: &Path) -> Result<Self> {
        let file = TensorFile::open(file)?;
        let memory: Result<Vec<Tensor>> =
            (0..file.names().count()).map(|row| Ok(file.tensor(&row_name(row))?)).collect();
        Ok(Self { memory: memory?, ..Self::default() })
    }

    /// Reopens files of a folder by their paths in the run, oldest first; other files are ignored.
    pub fn reopen<'a>(folder: PathBuf, run: &Path, files: impl Iterator<Item = &'a String>) -> Result<Self> {
        let mut store = Self { folder: Some(folder), ..Self::default() };
        for file in files {
            let file = TensorFile::open(&run.join(file))?;
            let rows = file.names().count();
            store.files.insert(store.written, file);
            store.written += rows;
        }
        Ok(store)
    }

    /// The files of a store on disk, oldest first; none for one in memory.
    pub fn paths(&self) -> Result<Vec<PathBuf>> {
        let Some(folder) = &self.folder else { return Ok(Vec::new()) };
        let entries = std::fs::read_dir(folder).with_context(|| format!("cannot read {}", folder.display()))?;
        let mut paths: Vec<PathBuf> = entries.flatten().map(|entry| entry.path()).collect();
        paths.sort();
        Ok(paths)
    }

    pub fn on_disk(&self) -> bool {
        self.folder.is_some()
    }
}

/// An iteration while it is sampled: transitions in order, each state once.
pub struct Keeping {
    pub store: Store,
    pub kept: Vec<Kept>,
    /// log p_theta - log p_start of transitions as sampled, if the start model was evaluated.
    pub drift: Vec<f64>,
    /// Number of states evaluated by the start model.
    pub asked_start: usize,
    /// Rows of the states along trajectories, by trajectory and call.
    along: HashMap<(usize, usize), usize>,
}

impl Keeping {
    pub fn new(store: Store) -> Self {
        Self { store, kept: Vec::new(), drift: Vec::new(), asked_start: 0, along: HashMap::new() }
    }

    /// Row of a trajectory's state before a call, added if new.
    pub fn state(&mut self, trajectory: usize, call: usize, latents: &Tensor) -> usize {
        if let Some(row) = self.along.get(&(trajectory, call)) {
            return *row;
        }
        let row = self.store.push(latents);
        self.along.insert((trajectory, call), row);
        row
    }

    /// Adds a transition and returns its index.
    pub fn add(&mut self, kept: Kept) -> usize {
        self.kept.push(kept);
        self.kept.len() - 1
    }
}
