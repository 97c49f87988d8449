//! SHA-256 of files, stored by path, size and mtime so that large weights are read once.

use super::files::{name_below, write_atomically};
use anyhow::{Context, Result};
use sha2::{Digest, Sha256};
use std::collections::BTreeMap;
use std::io::Read;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

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

/// Hashes of files in `<cache>/hashes.json`, keyed by path, size and mtime.
pub struct HashMemory {
    file: PathBuf,
    known: BTreeMap<String, String>,
    changed: bool,
}

impl HashMemory {
    /// Opens the store in `cache_dir`; a missing or unreadable one starts empty.
    pub fn open(cache_dir: &Path) -> Self {
        let file = cache_dir.join("hashes.json");
        let known = std::fs::read(&file).ok().and_then(|b| serde_json::from_slice(&b).ok()).unwrap_or_default();
        Self { file, known, changed: false }
    }

    /// SHA-256 of `path`, computed only if the file changed since the last call.
    pub fn of_file(&mut self, path: &Path) -> Result<String> {
        let full = path.canonicalize().with_context(|| format!("cannot find {}", path.display()))?;
        let meta = std::fs::metadata(&full)?;
        let key = format!("{}|{}|{}.{}", full.display(), meta.len(), meta.mtime(), meta.mtime_nsec());
        if let Some(hash) = self.known.get(&key) {
            return Ok(hash.clone());
        }
        let hash = of_file(&full)?;
        self.known.insert(key, hash.clone());
        self.changed = true;
        Ok(hash)
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
        if !self.changed {
            return;
        }
        if let Some(dir) = self.file.parent() {
            let _ = std::fs::create_dir_all(dir);
        }
        if let Ok(text) = serde_json::to_vec_pretty(&self.known) {
            let _ = write_atomically(&self.file, &text);
        }
    }
}
