//! `cache ledger`: the reference ledgers of a cache folder and the runs that name them.

use crate::keys::ConfigError;
use crate::ledger::{self, Listed, Origin, Part, Stored, Used};
use crate::machine::bytes::in_words;
use crate::runs::runs_below;
use anyhow::Result;
use serde::Serialize;
use std::path::PathBuf;

/// Choice of ledgers, and whether unnamed ones are removed.
#[derive(Debug, Clone)]
pub struct LedgersRequest {
    pub cache_dir: PathBuf,
    /// Folders with runs, or run folders; `None`: `runs` if there is one.
    pub runs: Option<Vec<PathBuf>>,
    /// Remove what no run names.
    pub prune: bool,
}

/// The ledgers of a cache folder.
#[derive(Debug, Serialize)]
pub struct Ledgers {
    /// The folder of all ledgers.
    pub folder: PathBuf,
    pub bytes: u64,
    pub ledgers: Vec<Of>,
    /// Removed parts, as `LEDGER PART`.
    pub removed: Vec<String>,
    pub removed_bytes: u64,
}

/// One ledger: the errors of one reference on one kind of machine.
#[derive(Debug, Serialize)]
pub struct Of {
    pub name: String,
    /// `None`: its description is missing or damaged.
    pub origin: Option<Origin>,
    pub parts: Vec<OfPart>,
    pub runs: Vec<Run>,
    /// Share of all errors of its runs that were stored already; `None` without runs.
    pub hit_rate: Option<f64>,
}

/// The errors of the training draws of one seed, or of held-out items.
#[derive(Debug, Serialize)]
pub struct OfPart {
    pub name: String,
    pub files: usize,
    pub bytes: u64,
    pub records: u64,
    pub errors: u64,
    pub damaged_files: usize,
}

/// A run that names a ledger.
#[derive(Debug, Clone, Serialize)]
pub struct Run {
    pub path: PathBuf,
    pub seed: u64,
    /// Errors that it read from the ledger.
    pub read: u64,
    /// Errors that it computed.
    pub computed: u64,
}

const DEFAULT_RUNS: &str = "runs";

/// Lists the ledgers of a cache folder; removes what no run names if asked to.
///
/// # Errors
/// Folders of runs that are not there: what they name would be removed. Files that cannot be removed.
pub fn ledgers(request: &LedgersRequest) -> Result<Ledgers> {
    let runs = runs(request)?;
    let (mut removed, mut removed_bytes, mut kept) = (Vec::new(), 0, Vec::new());
    for listed in ledger::ledgers(&request.cache_dir) {
        let named: Vec<&(String, Run)> = runs.iter().filter(|(name, _)| *name == listed.name).collect();
        let is_named = |part: &Part| match part {
            Part::Seed(seed) => named.iter().any(|(_, run)| run.seed == *seed),
            Part::HeldOut => !named.is_empty(),
        };
        if request.prune {
            let unnamed = listed.parts.iter().filter(|(part, _)| !is_named(part));
            for (part, stored) in unnamed {
                if !named.is_empty() {
                    listed.remove_part(*part)?;
                }
                removed.push(format!("{} {}", listed.name, part.name()));
                removed_bytes += stored.bytes;
            }
            if named.is_empty() {
                listed.remove()?;
                continue;
            }
        }
        let parts = listed.parts.iter().filter(|(part, _)| !request.prune || is_named(part));
        let parts = parts.map(|(part, stored)| OfPart::new(*part, stored)).collect();
        kept.push(Of::new(&listed, parts, named.into_iter().map(|(_, run)| run.clone()).collect()));
    }
    let bytes = kept.iter().flat_map(|of| &of.parts).map(|part| part.bytes).sum();
    Ok(Ledgers { folder: ledger::folder(&request.cache_dir), bytes, ledgers: kept, removed, removed_bytes })
}

/// Runs by the ledger that they name.
fn runs(request: &LedgersRequest) -> Result<Vec<(String, Run)>> {
    let folders = match &request.runs {
        Some(folders) => folders.clone(),
        None => vec![PathBuf::from(DEFAULT_RUNS)],
    };
    let mut runs = Vec::new();
    for folder in folders {
        if !folder.is_dir() {
            if request.runs.is_none() && !request.prune {
                continue;
            }
            let why = if request.prune { "; what its runs name would be removed" } else { "" };
            let text =
                format!("--runs {}: there is no such folder{why}. Name the folders of all runs.", folder.display());
            return Err(ConfigError(text).into());
        }
        for path in runs_below(&folder)? {
            let Some(Used { ledger, seed, read, computed }) = Used::of_run(&path) else { continue };
            runs.push((ledger, Run { path, seed, read, computed }));
        }
    }
    Ok(runs)
}

impl OfPart {
    fn new(part: Part, stored: &Stored) -> Self {
        let Stored { files, bytes, records, errors, damaged } = stored;
        let (bytes, records, errors) = (*bytes, *records, *errors);
        Self { name: part.name(), files: files.len(), bytes, records, errors, damaged_files: *damaged }
    }
}

impl Of {
    fn new(listed: &Listed, parts: Vec<OfPart>, runs: Vec<Run>) -> Self {
        let (read, computed) = runs.iter().fold((0, 0), |(r, c), run| (r + run.read, c + run.computed));
        let hit_rate = (read + computed > 0).then(|| read as f64 / (read + computed) as f64);
        Self { name: listed.name.clone(), origin: listed.origin.clone(), parts, runs, hit_rate }
    }
}

impl Ledgers {
    /// The list as text.
    pub fn text(&self) -> String {
        let mut text =
            format!("{}: {} in {} ledgers\n", self.folder.display(), in_words(self.bytes), self.ledgers.len());
        self.ledgers.iter().for_each(|of| text += &of.text());
        for part in &self.removed {
            text += &format!("removed {part}\n");
        }
        if !self.removed.is_empty() {
            text += &format!("{} freed\n", in_words(self.removed_bytes));
        }
        text
    }
}

impl Of {
    fn text(&self) -> String {
        let rate = self.hit_rate.map_or("no run names it".into(), |rate| format!("{:.0} % read", 100.0 * rate));
        let mut text = format!("{}  {}  {rate}\n", self.name, self.machine());
        for part in &self.parts {
            let damaged =
                if part.damaged_files > 0 { format!(", {} damaged", part.damaged_files) } else { String::new() };
            text += &format!(
                "  {}: {} records, {} errors, {} in {} files{damaged}\n",
                part.name,
                part.records,
                part.errors,
                in_words(part.bytes),
                part.files
            );
        }
        for run in &self.runs {
            let Run { path, seed, read, computed } = run;
            text += &format!("  run {}: seed {seed}, {read} errors read, {computed} computed\n", path.display());
        }
        text
    }

    /// Model and machine, in short.
    fn machine(&self) -> String {
        let Some(origin) = &self.origin else { return "without a description".into() };
        let value = |name: &str| origin.0.get(name).map_or("?", String::as_str);
        let model: String = value("model").chars().take(8).collect();
        format!("model {model}, {}, {}, threads {}", value("dtype"), value("device"), value("threads"))
    }
}
