//! Records of tensors in a folder of safetensors shards, each with a checksum.
//!
//! A shard `shard-HEX.safetensors` holds tensors named `KEY.PART`. Its `__metadata__` has one text, `checksums`: a
//! JSON object KEY -> CRC-32C (hex) over the record's key and, part by part in the order of their names, name, shape
//! and bytes. Shards are never changed, only added and removed, so several processes can share a folder. Each reads
//! whole shards, and two that write the same record write the same bytes.

use anyhow::{Context, Result, anyhow};
use pipelines::weights::{TensorFile, write_safetensors};
use std::collections::{BTreeMap, HashMap};
use std::path::{Path, PathBuf};
use tch::Tensor;

/// Bytes of waiting records that trigger a write.
const SHARD_BYTES: usize = 64 << 20;

/// The tensors of a record by name.
pub(super) type Record = BTreeMap<String, Tensor>;

pub(super) struct Records {
    dir: PathBuf,
    shards: Vec<Shard>,
    /// Key of a record -> its shard.
    at: HashMap<String, usize>,
    pending: BTreeMap<String, Record>,
    pending_bytes: usize,
    /// Shards to remove once their intact records are written again.
    obsolete: Vec<PathBuf>,
    /// Messages about damage, for the user.
    pub damage: Vec<String>,
}

struct Shard {
    file: TensorFile,
    checksums: BTreeMap<String, String>,
    /// Record -> names of its parts.
    parts: HashMap<String, Vec<String>>,
}

impl Records {
    /// Opens a folder; creates a missing one. Unreadable shards are set aside and reported in `damage`.
    pub fn open(dir: &Path) -> Result<Self> {
        let make = || -> std::io::Result<Vec<PathBuf>> {
            std::fs::create_dir_all(dir)?;
            std::fs::read_dir(dir)?.map(|entry| Ok(entry?.path())).collect()
        };
        let mut files = make().with_context(|| {
            format!("cannot use the cache folder {}; set data.cache_dir to one that can be written", dir.display())
        })?;
        files.retain(|f| {
            let name = f.file_name().unwrap_or_default().to_string_lossy();
            name.starts_with("shard-") && name.ends_with(".safetensors")
        });
        files.sort();
        let mut records = Self {
            dir: dir.to_path_buf(),
            shards: Vec::new(),
            at: HashMap::new(),
            pending: BTreeMap::new(),
            pending_bytes: 0,
            obsolete: Vec::new(),
            damage: Vec::new(),
        };
        for file in files {
            records.add_shard(&file);
        }
        Ok(records)
    }

    fn add_shard(&mut self, path: &Path) {
        match Shard::open(path) {
            Ok(shard) => {
                let index = self.shards.len();
                self.at.extend(shard.parts.keys().map(|key| (key.clone(), index)));
                self.shards.push(shard);
            }
            // Another process may have replaced it since the folder was listed.
            Err(_) if !path.exists() => (),
            Err(error) => {
                self.damage.push(format!("damaged cache file, its records are made again: {error:#}"));
                self.obsolete.push(path.to_path_buf());
            }
        }
    }

    /// True if the record exists and its checksum holds. A damaged one is reported in `damage` and dropped.
    pub fn holds(&mut self, key: &str) -> bool {
        if self.pending.contains_key(key) {
            return true;
        }
        let Some(&index) = self.at.get(key) else { return false };
        let Err(error) = self.shards[index].record(key) else { return true };
        self.damage.push(format!("damaged cache record, made again: {error:#}"));
        self.give_up(index);
        false
    }

    /// Moves the intact records of a damaged shard to the next one.
    fn give_up(&mut self, index: usize) {
        let keys: Vec<String> = self.at.iter().filter(|(_, at)| **at == index).map(|(key, _)| key.clone()).collect();
        for key in keys {
            self.at.remove(&key);
            if let Ok(record) = self.shards[index].record(&key) {
                self.wait(key, record);
            }
        }
        self.obsolete.push(self.shards[index].file.path().to_path_buf());
    }

    /// A copy of a record in its stored types; `None` without one.
    pub fn get(&self, key: &str) -> Result<Option<Record>> {
        if let Some(record) = self.pending.get(key) {
            return Ok(Some(record.iter().map(|(name, t)| (name.clone(), t.shallow_clone())).collect()));
        }
        match self.at.get(key) {
            Some(&index) => self.shards[index].record(key).map(Some),
            None => Ok(None),
        }
    }

    /// Adds a record; it is on disk after the next [`flush`](Self::flush).
    pub fn put(&mut self, key: String, record: Record) -> Result<()> {
        self.wait(key, record);
        if self.pending_bytes >= SHARD_BYTES { self.flush() } else { Ok(()) }
    }

    fn wait(&mut self, key: String, record: Record) {
        self.pending_bytes += record.values().map(|t| t.numel() * t.kind().elt_size_in_bytes()).sum::<usize>();
        self.pending.insert(key, record);
    }

    /// Writes waiting records as one shard, then removes the shards it replaces.
    pub fn flush(&mut self) -> Result<()> {
        if !self.pending.is_empty() {
            let mut checksums = BTreeMap::new();
            let mut tensors = Vec::new();
            for (key, record) in std::mem::take(&mut self.pending) {
                checksums.insert(key.clone(), checksum(&key, &record)?);
                tensors.extend(record.into_iter().map(|(part, tensor)| (format!("{key}.{part}"), tensor)));
            }
            self.pending_bytes = 0;
            let json = serde_json::to_string(&checksums).context("checksums")?;
            let name = format!("shard-{}.safetensors", &crate::machine::hashes::of_bytes(json.as_bytes())[..16]);
            let path = self.dir.join(name);
            write_safetensors(&path, &tensors, &[("checksums", &json)])
                .with_context(|| format!("cannot write to the cache folder {}", self.dir.display()))?;
            // A damaged shard rewritten with the same records has the same name: it is replaced already.
            self.obsolete.retain(|old| *old != path);
            self.add_shard(&path);
        }
        for old in self.obsolete.drain(..) {
            // A remaining shard is found damaged again at the next opening, without harm.
            let _ = std::fs::remove_file(old);
        }
        Ok(())
    }
}

impl Shard {
    fn open(path: &Path) -> Result<Self> {
        let file = TensorFile::open(path)?;
        let checksums = file.metadata().get("checksums").and_then(|text| serde_json::from_str(text).ok());
        let checksums = checksums.ok_or_else(|| anyhow!("{} has no checksums", path.display()))?;
        let mut parts: HashMap<String, Vec<String>> = HashMap::new();
        for name in file.names() {
            let (key, part) = name.split_once('.').ok_or_else(|| anyhow!("{}: odd name {name}", path.display()))?;
            parts.entry(key.to_string()).or_default().push(part.to_string());
        }
        Ok(Self { file, checksums, parts })
    }

    /// Reads a record and compares its checksum.
    fn record(&self, key: &str) -> Result<Record> {
        let names = self.parts.get(key).map(Vec::as_slice).unwrap_or_default();
        let record: Record = names
            .iter()
            .map(|part| Ok((part.clone(), self.file.tensor(&format!("{key}.{part}"))?)))
            .collect::<Result<_>>()?;
        let found = checksum(key, &record)?;
        match self.checksums.get(key) {
            Some(expected) if *expected == found => Ok(record),
            expected => Err(anyhow!(
                "{}: record {key} has the checksum {found}, expected {}",
                self.file.path().display(),
                expected.map_or("one in the header", String::as_str)
            )),
        }
    }
}

fn checksum(key: &str, record: &Record) -> Result<String> {
    let mut sum = crc32c::crc32c(key.as_bytes());
    for (name, tensor) in record {
        sum = crc32c::crc32c_append(sum, format!("{name}{:?}", tensor.size()).as_bytes());
        let tensor = tensor.f_contiguous()?;
        let mut bytes = vec![0u8; tensor.numel() * tensor.kind().elt_size_in_bytes()];
        tensor.f_copy_data_u8(&mut bytes, tensor.numel())?;
        sum = crc32c::crc32c_append(sum, &bytes);
    }
    Ok(format!("{sum:08x}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(value: f32) -> Record {
        BTreeMap::from([("mean".to_string(), Tensor::from_slice(&[value, 1.0]).view([1, 2]))])
    }

    fn value(records: &Records, key: &str) -> Option<f64> {
        records.get(key).unwrap().map(|r| r["mean"].double_value(&[0, 0]))
    }

    fn shards(dir: &Path) -> Vec<PathBuf> {
        std::fs::read_dir(dir).unwrap().map(|e| e.unwrap().path()).collect()
    }

    #[test]
    fn records_come_back_after_a_flush_and_in_another_process() {
        let dir = tempfile::tempdir().unwrap();
        let mut first = Records::open(dir.path()).unwrap();
        let mut second = Records::open(dir.path()).unwrap();
        first.put("a".into(), record(3.0)).unwrap();
        assert_eq!(value(&first, "a"), Some(3.0));
        first.flush().unwrap();
        second.put("a".into(), record(3.0)).unwrap();
        second.put("b".into(), record(4.0)).unwrap();
        second.flush().unwrap();
        let mut third = Records::open(dir.path()).unwrap();
        assert_eq!((value(&third, "a"), value(&third, "b"), value(&third, "c")), (Some(3.0), Some(4.0), None));
        assert!(third.holds("a") && third.holds("b") && !third.holds("c") && third.damage.is_empty());
    }

    #[test]
    fn a_damaged_record_is_told_and_forgotten_and_its_neighbours_stay() {
        let dir = tempfile::tempdir().unwrap();
        let mut records = Records::open(dir.path()).unwrap();
        records.put("a".into(), record(3.0)).unwrap();
        records.put("b".into(), record(4.0)).unwrap();
        records.flush().unwrap();
        let path = shards(dir.path()).remove(0);
        let mut bytes = std::fs::read(&path).unwrap();
        *bytes.last_mut().unwrap() ^= 1; // the last byte belongs to b
        std::fs::write(&path, &bytes).unwrap();

        let mut records = Records::open(dir.path()).unwrap();
        assert!(!records.holds("b") && records.holds("a"));
        assert!(records.damage[0].contains("record b has the checksum"), "{:?}", records.damage);
        records.put("b".into(), record(4.0)).unwrap();
        records.flush().unwrap();
        let mut records = Records::open(dir.path()).unwrap();
        assert!(records.holds("a") && records.holds("b") && records.damage.is_empty());
        assert_eq!(shards(dir.path()).len(), 1);
    }

    #[test]
    fn a_truncated_shard_is_told_and_removed() {
        let dir = tempfile::tempdir().unwrap();
        let mut records = Records::open(dir.path()).unwrap();
        records.put("a".into(), record(3.0)).unwrap();
        records.flush().unwrap();
        let path = shards(dir.path()).remove(0);
        let bytes = std::fs::read(&path).unwrap();
        std::fs::write(&path, &bytes[..bytes.len() - 3]).unwrap();
        let mut records = Records::open(dir.path()).unwrap();
        assert!(!records.holds("a"));
        assert!(
            records.damage[0].starts_with("damaged cache file, its records are made again"),
            "{:?}",
            records.damage
        );
        records.flush().unwrap();
        assert!(shards(dir.path()).is_empty());
    }
}
