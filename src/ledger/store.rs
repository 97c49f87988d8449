//! An open ledger: all records of one origin and one seed in memory, and the shard that this process adds to.

use super::key::Key;
use super::origin::{self, Origin};
use super::shard::{self, Record};
use crate::machine::files::write_atomically;
use crate::machine::hashes::of_bytes;
use anyhow::{Context, Result};
use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant, SystemTime};
use tch::Kind;

/// Records of a shard; the next one goes into another.
const FULL: usize = 1 << 14;
/// New records, or time, after which a shard is written.
const MANY: usize = 1 << 10;
const PAUSE: Duration = Duration::from_secs(30);

/// The folder of all ledgers in a cache folder.
pub fn folder(cache_dir: &Path) -> PathBuf {
    cache_dir.join("ledger")
}

/// The draws of some errors.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Part {
    /// Draws of training items, which depend on the seed of the run.
    Seed(u64),
    /// Draws of held-out items, equal in every run.
    HeldOut,
}

impl Part {
    /// Name for people.
    pub fn name(self) -> String {
        match self {
            Self::Seed(seed) => format!("seed {seed}"),
            Self::HeldOut => "held out".into(),
        }
    }

    /// Beginning of the names of its shards.
    pub fn prefix(self) -> String {
        match self {
            Self::Seed(seed) => format!("seed-{seed}-"),
            Self::HeldOut => "held-out-".into(),
        }
    }

    /// The part of a shard by its file name; `None` for another file.
    pub fn of_file(name: &str) -> Option<Self> {
        let stem = name.strip_suffix(".safetensors")?;
        match stem.strip_prefix("seed-") {
            Some(rest) => rest.split_once('-')?.0.parse().ok().map(Self::Seed),
            None => stem.starts_with("held-out-").then_some(Self::HeldOut),
        }
    }
}

/// The shard of a part that this process adds to.
struct Growing {
    part: Part,
    name: String,
    records: Vec<Record>,
    /// Records that are not on disk yet.
    new: usize,
}

impl Growing {
    fn new(part: Part) -> Self {
        Self { part, name: fresh(part), records: Vec::new(), new: 0 }
    }
}

/// A name that no other process uses.
fn fresh(part: Part) -> String {
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default().as_nanos();
    let unique = of_bytes(format!("{} {now} {part:?}", std::process::id()).as_bytes());
    format!("{}{}.safetensors", part.prefix(), &unique[..16])
}

/// Stored errors of a reference.
pub struct ErrorLedger {
    folder: PathBuf,
    origin: Origin,
    kind: Kind,
    known: HashMap<Key, Vec<f64>>,
    growing: [Growing; 2],
    /// Damaged shards, to be removed once their whole records are written again.
    obsolete: Vec<PathBuf>,
    written: Instant,
    /// The folder cannot be written: new records stay in memory.
    failed: bool,
    /// Messages for the user.
    pub notes: Vec<String>,
    /// Errors read from the ledger so far.
    pub read: u64,
    /// Errors computed so far.
    pub computed: u64,
}

impl ErrorLedger {
    /// Opens the ledger of `origin` in a cache folder for training draws of `seed`. `kind`: type of the errors, float32
    /// or float64. Damaged shards and records are noted and left out.
    pub fn open(cache_dir: &Path, origin: Origin, seed: u64, kind: Kind) -> Self {
        let folder = folder(cache_dir).join(origin.folder());
        let mut ledger = Self {
            folder,
            origin,
            kind,
            known: HashMap::new(),
            growing: [Part::Seed(seed), Part::HeldOut].map(Growing::new),
            obsolete: Vec::new(),
            written: Instant::now(),
            failed: false,
            notes: Vec::new(),
            read: 0,
            computed: 0,
        };
        ledger.read_shards(Part::Seed(seed));
        ledger
    }

    /// The folder of its shards.
    pub fn path(&self) -> &Path {
        &self.folder
    }

    /// Name of its folder.
    pub fn name(&self) -> String {
        self.origin.folder()
    }

    /// Type of the errors.
    pub fn kind(&self) -> Kind {
        self.kind
    }

    /// Number of records.
    pub fn len(&self) -> usize {
        self.known.len()
    }

    pub fn is_empty(&self) -> bool {
        self.known.is_empty()
    }

    fn read_shards(&mut self, own: Part) {
        let mut others = Vec::new();
        for name in names(&self.folder) {
            match Part::of_file(&name) {
                Some(part) if part == own || part == Part::HeldOut => self.read_shard(part, &name),
                Some(Part::Seed(seed)) => others.push(seed),
                Some(Part::HeldOut) | None => {}
            }
        }
        others.sort_unstable();
        others.dedup();
        if let (Part::Seed(seed), false) = (own, others.is_empty()) {
            let others = others.iter().map(u64::to_string).collect::<Vec<_>>().join(", ");
            self.notes.push(format!("ledger: errors of seed {others} are not read: this run draws with seed {seed}"));
        }
        if !self.folder.exists() {
            self.note_others();
        }
    }

    fn read_shard(&mut self, part: Part, name: &str) {
        let path = self.folder.join(name);
        match shard::read(&path, self.kind) {
            Ok(read) if read.damaged == 0 => self.known.extend(read.whole),
            Ok(read) => {
                self.notes.push(format!(
                    "damaged ledger file {}: {} of {} records are computed again",
                    path.display(),
                    read.damaged,
                    read.damaged + read.whole.len()
                ));
                for (key, errors) in read.whole {
                    self.store(part, key, errors);
                }
                self.obsolete.push(path);
            }
            // Another process may have removed it since the folder was listed.
            Err(_) if !path.exists() => {}
            Err(error) => {
                self.notes.push(format!("damaged ledger file, its errors are computed again: {error:#}"));
                self.obsolete.push(path);
            }
        }
    }

    /// Notes which ledgers beside a new one are not read, and why.
    fn note_others(&mut self) {
        const SHOWN: usize = 3;
        let Some(beside) = self.folder.parent() else { return };
        let others = folders(beside).into_iter().filter_map(|folder| Some((Origin::read(&folder)?, folder)));
        let lines: Vec<String> = others
            .map(|(other, folder)| {
                let name = folder.file_name().unwrap_or_default().to_string_lossy().into_owned();
                format!("{name} ({})", self.origin.differences(&other).join("; "))
            })
            .collect();
        if !lines.is_empty() {
            let more = if lines.len() > SHOWN { format!(" and {} more", lines.len() - SHOWN) } else { String::new() };
            let shown = lines.iter().take(SHOWN).cloned().collect::<Vec<_>>().join(", ");
            self.notes.push(format!("ledger: a new one begins; not read are {shown}{more}"));
        }
    }

    /// The errors of a forward pass of `rows` rows; `None` if they are not known.
    pub fn get(&mut self, key: &Key, rows: usize) -> Option<Vec<f64>> {
        let found = self.known.get(key).filter(|errors| errors.len() == rows)?;
        self.read += rows as u64;
        Some(found.clone())
    }

    /// Whether the errors are known.
    pub fn holds(&self, key: &Key) -> bool {
        self.known.contains_key(key)
    }

    /// Adds computed errors, unless one of them is not finite. They are on disk after the next write.
    pub fn put(&mut self, part: Part, key: Key, errors: Vec<f64>) {
        self.computed += errors.len() as u64;
        if errors.iter().all(|error| error.is_finite()) {
            self.store(part, key, errors);
        }
    }

    fn store(&mut self, part: Part, key: Key, errors: Vec<f64>) {
        if let Some(growing) = self.growing.iter_mut().find(|growing| growing.part == part) {
            growing.records.push((key, errors.clone()));
            growing.new += 1;
        }
        self.known.insert(key, errors);
    }

    /// Whether new records should be written now.
    pub fn is_due(&self) -> bool {
        let new: usize = self.growing.iter().map(|growing| growing.new).sum();
        new > 0 && !self.failed && (new >= MANY || self.written.elapsed() >= PAUSE)
    }

    /// Writes new records. A folder that cannot be written is noted once; the records then stay in memory.
    pub fn flush(&mut self) {
        if self.failed {
            return;
        }
        if let Err(error) = self.write() {
            self.failed = true;
            self.notes.push(format!(
                "the ledger cannot be written: {error:#}; the run continues without storing errors. Free space there, or set data.cache_dir to another disk."
            ));
        }
    }

    fn write(&mut self) -> Result<()> {
        self.written = Instant::now();
        for growing in self.growing.iter_mut().filter(|growing| growing.new > 0) {
            std::fs::create_dir_all(&self.folder).with_context(|| format!("cannot make {}", self.folder.display()))?;
            let described = self.folder.join(origin::FILE);
            if !described.exists() {
                write_atomically(&described, &serde_json::to_vec_pretty(&self.origin)?)?;
            }
            shard::write(&self.folder.join(&growing.name), &growing.records, self.kind)?;
            growing.new = 0;
            if growing.records.len() >= FULL {
                (growing.name, growing.records) = (fresh(growing.part), Vec::new());
            }
        }
        for path in self.obsolete.drain(..) {
            // A remaining one is found damaged again at the next opening, without harm.
            let _ = std::fs::remove_file(path);
        }
        Ok(())
    }
}

/// Names of the files in a folder, sorted; none without a folder.
pub(super) fn names(folder: &Path) -> Vec<String> {
    let entries = std::fs::read_dir(folder).into_iter().flatten().flatten();
    let mut names: Vec<String> = entries.map(|entry| entry.file_name().to_string_lossy().into_owned()).collect();
    names.sort();
    names
}

/// The folders in a folder, sorted.
pub(super) fn folders(folder: &Path) -> Vec<PathBuf> {
    names(folder).into_iter().map(|name| folder.join(name)).filter(|path| path.is_dir()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn origin(dtype: &str) -> Origin {
        Origin::new([("dtype", dtype.into())])
    }

    fn open(dir: &Path, seed: u64) -> ErrorLedger {
        ErrorLedger::open(dir, origin("float32"), seed, Kind::Float)
    }

    const A: Key = [1; 16];
    const B: Key = [2; 16];

    #[test]
    fn records_of_a_seed_and_of_held_out_items_are_found_again() {
        let dir = tempfile::tempdir().unwrap();
        let mut first = open(dir.path(), 0);
        first.put(Part::Seed(0), A, vec![0.5, 0.25]);
        first.put(Part::HeldOut, B, vec![1.0]);
        first.put(Part::HeldOut, [3; 16], vec![f64::NAN]);
        first.flush();
        assert_eq!((first.read, first.computed), (0, 4));
        let mut again = open(dir.path(), 0);
        assert_eq!(again.get(&A, 2), Some(vec![0.5, 0.25]));
        assert_eq!((again.get(&A, 1), again.get(&[3; 16], 1)), (None, None));
        assert_eq!((again.read, again.notes.len()), (2, 0));
        let mut other = open(dir.path(), 7);
        assert_eq!((other.get(&A, 2), other.get(&B, 1)), (None, Some(vec![1.0])));
        assert_eq!(other.notes, ["ledger: errors of seed 0 are not read: this run draws with seed 7"]);
    }

    #[test]
    fn a_ledger_of_another_origin_is_not_read_and_the_difference_is_said() {
        let dir = tempfile::tempdir().unwrap();
        let mut first = open(dir.path(), 0);
        first.put(Part::Seed(0), A, vec![0.5]);
        first.flush();
        let other = ErrorLedger::open(dir.path(), origin("bfloat16"), 0, Kind::Float);
        assert!(other.is_empty());
        let said = format!("not read are {} (dtype float32, here bfloat16)", first.name());
        assert!(other.notes[0].ends_with(&said), "{:?}", other.notes);
    }

    #[test]
    fn whole_records_of_a_damaged_shard_move_to_a_new_one() {
        let dir = tempfile::tempdir().unwrap();
        let mut first = open(dir.path(), 0);
        first.put(Part::Seed(0), A, vec![0.5]);
        first.put(Part::Seed(0), B, vec![0.25]);
        first.flush();
        let path = first.folder.join(&first.growing[0].name);
        let mut bytes = std::fs::read(&path).unwrap();
        let last = bytes.len() - 1;
        bytes[last] ^= 1;
        std::fs::write(&path, bytes).unwrap();
        let mut second = open(dir.path(), 0);
        assert!(second.notes[0].ends_with("1 of 2 records are computed again"), "{:?}", second.notes);
        assert_eq!(second.len(), 1);
        second.flush();
        assert!(!path.exists());
        let third = open(dir.path(), 0);
        assert_eq!((third.len(), third.notes.len()), (1, 0));
    }

    #[test]
    fn a_folder_that_cannot_be_written_is_said_once_and_records_stay_in_memory() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(folder(dir.path()), "a file in the way").unwrap();
        let mut ledger = open(dir.path(), 0);
        for key in [A, B] {
            ledger.put(Part::Seed(0), key, vec![0.5]);
            ledger.flush();
        }
        assert_eq!(ledger.notes.len(), 1);
        assert!(ledger.notes[0].starts_with("the ledger cannot be written: cannot make "), "{:?}", ledger.notes);
        assert_eq!(ledger.get(&A, 1), Some(vec![0.5]));
    }

    #[test]
    fn a_full_shard_is_followed_by_another() {
        let dir = tempfile::tempdir().unwrap();
        let mut ledger = open(dir.path(), 0);
        for i in 0..=FULL as u64 {
            let mut key = A;
            key[..8].copy_from_slice(&i.to_le_bytes());
            ledger.put(Part::Seed(0), key, vec![0.5]);
            if ledger.is_due() {
                ledger.flush();
            }
        }
        ledger.flush();
        let shards = names(&ledger.folder).into_iter().filter(|name| Part::of_file(name).is_some()).count();
        assert_eq!((shards, open(dir.path(), 0).len()), (2, FULL + 1));
    }
}
