//! Numbers of pictures that a scorer has rated before, in the cache folder: one file per scorer, one line per picture.

use anyhow::{Context, Result};
use serde::{Deserialize, Serialize};
use std::collections::HashMap;
use std::fs::{File, OpenOptions};
use std::io::{Read, Write};
use std::path::{Path, PathBuf};

/// One line. Lines are appended, so that a killed process loses at most the batch that it was rating.
#[derive(Serialize, Deserialize)]
struct Line {
    key: String,
    numbers: Vec<f64>,
}

/// Stored numbers by picture and prompt.
pub struct Memory {
    path: PathBuf,
    file: File,
    known: HashMap<String, Vec<f64>>,
}

impl Memory {
    /// Opens or makes `DIR/NAME.jsonl`. `measures`: numbers per line; damaged lines are passed over.
    ///
    /// # Errors
    /// A folder that cannot be written.
    pub fn open(dir: &Path, name: &str, measures: usize) -> Result<Self> {
        std::fs::create_dir_all(dir).with_context(|| format!("cannot make the folder {}", dir.display()))?;
        let path = dir.join(format!("{name}.jsonl"));
        let mut bytes = Vec::new();
        let mut open = || -> std::io::Result<File> {
            let mut file = OpenOptions::new().create(true).read(true).append(true).open(&path)?;
            file.read_to_end(&mut bytes)?;
            // A killed process may have left half a line.
            if bytes.last().is_some_and(|byte| *byte != b'\n') {
                file.write_all(b"\n")?;
            }
            Ok(file)
        };
        let file = open().with_context(|| format!("cannot open {}", path.display()))?;
        let lines = bytes.split(|byte| *byte == b'\n').filter_map(|line| serde_json::from_slice::<Line>(line).ok());
        let whole = lines.filter(|line| line.numbers.len() == measures);
        Ok(Self { path, file, known: whole.map(|line| (line.key, line.numbers)).collect() })
    }

    pub fn get(&self, key: &str) -> Option<&Vec<f64>> {
        self.known.get(key)
    }

    /// Stores numbers, and writes them to the file in one piece.
    ///
    /// # Errors
    /// A full disk.
    pub fn extend(&mut self, numbers: Vec<(String, Vec<f64>)>) -> Result<()> {
        let mut text = Vec::new();
        for (key, numbers) in &numbers {
            serde_json::to_writer(&mut text, &Line { key: key.clone(), numbers: numbers.clone() })?;
            text.push(b'\n');
        }
        self.file.write_all(&text).with_context(|| format!("cannot write {}", self.path.display()))?;
        self.known.extend(numbers);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn half_a_line_of_a_killed_process_is_passed_over_and_all_others_are_kept() {
        let dir = tempfile::tempdir().unwrap();
        let mut memory = Memory::open(dir.path(), "s", 1).unwrap();
        memory.extend(vec![("a".into(), vec![1.5]), ("b".into(), vec![-0.1])]).unwrap();
        let file = dir.path().join("s.jsonl");
        let text = std::fs::read_to_string(&file).unwrap();
        std::fs::write(&file, &text[..text.len() - 5]).unwrap();
        let mut memory = Memory::open(dir.path(), "s", 1).unwrap();
        assert_eq!((memory.get("a"), memory.get("b")), (Some(&vec![1.5]), None));
        memory.extend(vec![("b".into(), vec![0.1 + 0.2])]).unwrap();
        let memory = Memory::open(dir.path(), "s", 1).unwrap();
        assert_eq!((memory.get("a"), memory.get("b")), (Some(&vec![1.5]), Some(&vec![0.1 + 0.2])));
        assert_eq!(Memory::open(dir.path(), "s", 2).unwrap().get("a"), None);
    }
}
