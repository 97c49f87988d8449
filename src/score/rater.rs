//! A scorer with its stored numbers.

use super::memory::Memory;
use crate::machine::hashes::{self, HashMemory};
use crate::scorers::{Named, Scope, ScorerSpec};
use anyhow::{Context, Result, bail};
use image::RgbImage;
use std::collections::HashSet;
use std::path::Path;
use std::time::Instant;

/// A scorer, its stored numbers, and the time that it took.
pub struct Rater {
    pub spec: ScorerSpec,
    pub named: Named,
    memory: Memory,
    reads_prompt: bool,
    /// Pictures rated by this process, and the seconds that it took.
    pub rated: usize,
    pub seconds: f64,
}

/// A picture and prompt to be rated.
#[derive(Clone, Copy)]
pub struct Asked<'a> {
    pub picture: &'a RgbImage,
    /// SHA-256 of the file.
    pub hash: &'a str,
    pub prompt: &'a str,
}

impl Rater {
    /// # Errors
    /// Unreadable files of the scorer; a cache folder that cannot be written.
    pub fn new(spec: ScorerSpec, named: Named, cache_dir: &Path, hashes: &mut HashMemory) -> Result<Self> {
        let measures = named.scorer.measures();
        if measures.is_empty() {
            bail!("--scorer {}: it only compares pictures, and score needs numbers", spec.name);
        }
        let fingerprint = spec.fingerprint(named.scorer.as_ref(), &[], hashes)?;
        let file = format!("{}-{}", spec.name, fingerprint.get(..16).unwrap_or(&fingerprint));
        let memory = Memory::open(&cache_dir.join("scores"), &file, measures.len())?;
        let reads_prompt = measures.iter().any(|measure| measure.scope == Scope::Prompt);
        Ok(Self { spec, named, memory, reads_prompt, rated: 0, seconds: 0.0 })
    }

    /// Whether one of its measures reads the prompt.
    pub fn reads_prompt(&self) -> bool {
        self.reads_prompt
    }

    fn key(&self, hash: &str, prompt: &str) -> String {
        match self.reads_prompt {
            true => format!("{hash}-{}", hashes::of_bytes(prompt.as_bytes())),
            false => hash.to_string(),
        }
    }

    /// Stored numbers of a picture and prompt.
    pub fn known(&self, hash: &str, prompt: &str) -> Option<&Vec<f64>> {
        self.memory.get(&self.key(hash, prompt))
    }

    /// Rates and stores what is not stored yet.
    ///
    /// # Errors
    /// Those of [`Named::rate`]; a full disk.
    pub fn rate(&mut self, batch: &[Asked]) -> Result<()> {
        let mut seen = HashSet::new();
        let mut keys = Vec::new();
        let (mut pictures, mut prompts) = (Vec::new(), Vec::new());
        for asked in batch {
            let key = self.key(asked.hash, asked.prompt);
            if self.memory.get(&key).is_none() && seen.insert(key.clone()) {
                keys.push(key);
                pictures.push(asked.picture.clone());
                prompts.push(asked.prompt);
            }
        }
        if keys.is_empty() {
            return Ok(());
        }
        let began = Instant::now();
        let table = self.named.rate(&pictures, 0, &prompts)?;
        self.seconds += began.elapsed().as_secs_f64();
        self.rated += keys.len();
        self.memory.extend(keys.into_iter().zip(table.0).collect())
    }
}

/// Refuses rows without a prompt, and prompts that a scorer cannot rate. `prompts`: place in messages, prompt.
///
/// # Errors
/// The text names scorer and row.
pub fn check<'a>(named: &Named, prompts: impl IntoIterator<Item = (&'a str, Option<&'a str>)>) -> Result<()> {
    for (place, prompt) in prompts {
        let Some(prompt) = prompt else {
            bail!(
                "{place}: no prompt, and the scorer \"{}\" reads it; give rows with a prompt, a text file NAME.txt beside \
                 each picture of a folder, or a scorer that does not read prompts",
                named.name
            );
        };
        named.check([prompt]).with_context(|| place.to_string())?;
    }
    Ok(())
}
