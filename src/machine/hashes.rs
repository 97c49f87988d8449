//! SHA-256 of files and of parts of containers, stored so that large files are read once.

use super::files::{name_below, write_atomically};
use anyhow::{Context, Result};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use std::collections::{BTreeMap, HashMap};
use std::io::Read;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, UNIX_EPOCH};

/// Hashes of whole files.
const FILES: &str = "hashes.json";
/// Folder of the hashes of parts, a file per container.
const PARTS: &str = "hashes";

/// SHA-256 of files by name, lower-case hex.
pub type FileHashes = BTreeMap<String, String>;

/// SHA-256 of bytes, as hex.
pub fn of_bytes(bytes: &[u8]) -> String {
    hex::encode(Sha256::digest(bytes))
}

/// SHA-256 of a file, as hex, read in blocks.
pub fn of_file(path: &Path) -> Result<String> {
    let mut file = std::fs::File::open(path).with_context(|| format!("cannot open {}", path.display()))?;
    let mut digest = Sha256::new();
    let mut block = vec![0u8; 1 << 20];
    loop {
        let n = file.read(&mut block).with_context(|| format!("cannot read {}", path.display()))?;
        if n == 0 {
            return Ok(hex::encode(digest.finalize()));
        }
        digest.update(&block[..n]);
    }
}

/// Age of a change below which a file is not remembered: a second change in the same tick of the file system's clock
/// would leave no trace.
const SETTLED_S: f64 = 0.1;

/// Hashes of files in `<cache>/hashes.json`, keyed by path, size, times of change and inode. The time of the last change
/// of the inode cannot be set, so that a file copied over another with its size and date is told apart.
pub struct HashMemory {
    dir: PathBuf,
    known: BTreeMap<String, String>,
    changed: bool,
    /// Containers by path.
    parts: HashMap<PathBuf, Parts>,
}

/// Hashes of the parts of one container, in `<cache>/hashes/HEX.json`.
#[derive(Default, Serialize, Deserialize)]
struct Parts {
    /// Key of the container when they were computed.
    container: String,
    hashes: BTreeMap<String, String>,
    #[serde(skip)]
    changed: bool,
}

/// The marks that tell a file from another one at its path, and whether it is old enough to be remembered by them.
fn identity(path: &Path) -> Result<(String, bool)> {
    let full = path.canonicalize().with_context(|| format!("cannot find {}", path.display()))?;
    let meta = std::fs::metadata(&full).with_context(|| format!("cannot read {}", path.display()))?;
    let key = format!(
        "{}|{}|{}.{}|{}.{}|{}",
        full.display(),
        meta.len(),
        meta.mtime(),
        meta.mtime_nsec(),
        meta.ctime(),
        meta.ctime_nsec(),
        meta.ino()
    );
    let changed = UNIX_EPOCH + Duration::new(meta.ctime().max(0) as u64, meta.ctime_nsec() as u32);
    let settled = changed.elapsed().is_ok_and(|age| age.as_secs_f64() > SETTLED_S);
    Ok((key, settled))
}

impl HashMemory {
    /// Opens the store in `cache_dir`; a missing or unreadable one starts empty.
    pub fn open(cache_dir: &Path) -> Self {
        let known = read(&cache_dir.join(FILES)).unwrap_or_default();
        Self { dir: cache_dir.to_path_buf(), known, changed: false, parts: HashMap::new() }
    }

    /// SHA-256 of `path`, computed only if the file changed since the last call.
    pub fn of_file(&mut self, path: &Path) -> Result<String> {
        let (key, settled) = identity(path)?;
        if let Some(hash) = self.known.get(&key) {
            return Ok(hash.clone());
        }
        let hash = of_file(path)?;
        if settled {
            self.known.insert(key, hash.clone());
            self.changed = true;
        }
        Ok(hash)
    }

    /// SHA-256 of a part of a container, by `compute` if the container changed since the last call. A container is
    /// looked at once.
    ///
    /// # Errors
    /// Those of `compute`.
    pub fn of_part<E>(
        &mut self,
        container: &Path,
        part: &str,
        compute: impl FnOnce() -> std::result::Result<String, E>,
    ) -> std::result::Result<String, E> {
        if !self.parts.contains_key(container) {
            let parts = self.parts_of(container);
            self.parts.insert(container.to_path_buf(), parts);
        }
        let Some(parts) = self.parts.get_mut(container) else { return compute() };
        if let Some(hash) = parts.hashes.get(part) {
            return Ok(hash.clone());
        }
        let hash = compute()?;
        parts.hashes.insert(part.to_string(), hash.clone());
        parts.changed = true;
        Ok(hash)
    }

    fn parts_of(&self, container: &Path) -> Parts {
        // A young container is not remembered beyond this process.
        let identity = identity(container).ok().filter(|(_, settled)| *settled).map(|(key, _)| key).unwrap_or_default();
        let known: Option<Parts> = read(&self.parts_file(container));
        match known.filter(|known| !identity.is_empty() && known.container == identity) {
            Some(known) => known,
            None => Parts { container: identity, ..Parts::default() },
        }
    }

    fn parts_file(&self, container: &Path) -> PathBuf {
        let full = container.canonicalize().unwrap_or_else(|_| container.to_path_buf());
        self.dir.join(PARTS).join(format!("{}.json", &of_bytes(full.display().to_string().as_bytes())[..32]))
    }

    /// SHA-256 of several files, in their order.
    pub fn of_files<P: AsRef<Path>>(&mut self, files: impl IntoIterator<Item = P>) -> Result<Vec<String>> {
        files.into_iter().map(|file| self.of_file(file.as_ref())).collect()
    }

    /// SHA-256 of named files, by name.
    pub fn named(&mut self, files: impl IntoIterator<Item = (String, PathBuf)>) -> Result<FileHashes> {
        files.into_iter().map(|(name, file)| Ok((name, self.of_file(&file)?))).collect()
    }

    /// SHA-256 of files of a folder, by their path below `root`.
    pub fn below(&mut self, root: &Path, files: &[PathBuf]) -> Result<FileHashes> {
        self.named(files.iter().map(|file| (name_below(root, file), file.clone())))
    }

    /// Writes the store. Its loss costs only time, so failures are not errors.
    pub fn save(&self) {
        let write = |file: PathBuf, text: serde_json::Result<Vec<u8>>| {
            let (Some(dir), Ok(text)) = (file.parent(), text) else { return };
            let _ = std::fs::create_dir_all(dir);
            let _ = write_atomically(&file, &text);
        };
        if self.changed {
            write(self.dir.join(FILES), serde_json::to_vec_pretty(&self.known));
        }
        for (container, parts) in self.parts.iter().filter(|(_, parts)| parts.changed && !parts.container.is_empty()) {
            write(self.parts_file(container), serde_json::to_vec(parts));
        }
    }
}

fn read<T: serde::de::DeserializeOwned>(file: &Path) -> Option<T> {
    std::fs::read(file).ok().and_then(|bytes| serde_json::from_slice(&bytes).ok())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::cell::Cell;

    #[test]
    fn a_file_copied_over_another_with_its_size_and_date_is_another_one() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("a");
        std::fs::write(&file, "one").unwrap();
        let date = std::fs::metadata(&file).unwrap().modified().unwrap();
        std::thread::sleep(Duration::from_secs_f64(2.0 * SETTLED_S));
        let mut memory = HashMemory::open(dir.path());
        assert_eq!(memory.of_file(&file).unwrap(), of_bytes(b"one"));
        assert!(memory.changed, "an old file is remembered");
        std::fs::write(&file, "two").unwrap();
        std::fs::File::options().write(true).open(&file).unwrap().set_modified(date).unwrap();
        assert_eq!(memory.of_file(&file).unwrap(), of_bytes(b"two"));
    }

    #[test]
    fn parts_are_computed_again_after_a_change_of_their_container() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("a.parquet");
        let computed = Cell::new(0);
        let hash = || {
            let mut memory = HashMemory::open(dir.path());
            let compute = || -> Result<String> {
                computed.set(computed.get() + 1);
                of_file(&file)
            };
            let first = memory.of_part(&file, "x:0", compute).unwrap();
            assert_eq!(memory.of_part(&file, "x:0", || anyhow::bail!("known")).unwrap(), first);
            memory.save();
            first
        };
        std::fs::write(&file, "one").unwrap();
        std::thread::sleep(Duration::from_secs_f64(2.0 * SETTLED_S));
        assert_eq!([hash(), hash()], [of_bytes(b"one"), of_bytes(b"one")]);
        assert_eq!(computed.get(), 1);
        std::fs::write(&file, "two").unwrap();
        assert_eq!(hash(), of_bytes(b"two"));
        assert_eq!(computed.get(), 2);
    }
}
