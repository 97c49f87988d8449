//! Embedding cache: embeddings of prompts, encoded once, keyed by text encoder, tokenizer and prompt.

use super::cache::{CacheDtype, announce, check_cache_space, short};
use super::records::{Record, Records};
use crate::machine::hashes::of_bytes;
use crate::progress::{Progress, Stop};
use anyhow::{Context, Result, bail, ensure};
use pipelines::Conditioning;
use pipelines::conditioning::POOLED_PROMPT_EMBEDS;
use pipelines::weights::is_finite;
use std::collections::HashSet;
use std::path::PathBuf;
use std::time::Instant;
use tch::{Device, Kind};

/// All inputs of a run's embeddings, and the cache folder.
#[derive(Debug, Clone, PartialEq)]
pub struct TextOptions {
    pub cache_dir: PathBuf,
    /// SHA-256 over the weights of the text encoders and the files of their tokenizers.
    pub encoder_sha256: String,
    pub clip_skip: i64,
    pub dtype: CacheDtype,
}

/// Encodes one prompt: every tensor of the family, `[1, ..]`.
pub type EncodePrompt<'a> = dyn FnMut(&str) -> Result<Conditioning> + 'a;

/// The embeddings of a run's prompts.
pub struct TextCache {
    options: TextOptions,
    records: Records,
}

impl TextCache {
    pub fn open(options: TextOptions) -> Result<Self> {
        let folder = options.cache_dir.join("prompts").join(short(&options.encoder_sha256));
        Ok(Self { records: Records::open(&folder)?, options })
    }

    fn key(&self, prompt: &str) -> String {
        let o = &self.options;
        let text = format!("prompts 1|{}|skip {}|{}|{prompt}", o.encoder_sha256, o.clip_skip, o.dtype.name());
        short(&of_bytes(text.as_bytes()))
    }

    /// Ensures a record of every prompt.
    ///
    /// # Errors
    /// `Stopped` after a stop signal (finished records are kept), a full disk, errors of `encode`.
    pub fn ensure(
        &mut self,
        prompts: &[String],
        encode: &mut EncodePrompt,
        progress: &dyn Progress,
        stop: &Stop,
    ) -> Result<()> {
        let mut seen = HashSet::new();
        let mut missing = Vec::new();
        for prompt in prompts {
            let key = self.key(prompt);
            if seen.insert(key.clone()) && !self.records.holds(&key) {
                missing.push((prompt.as_str(), key));
            }
        }
        for line in self.records.damage.drain(..) {
            progress.line(&line);
        }
        let result = self.encode_all(&missing, encode, progress, stop);
        self.records.flush()?;
        result
    }

    fn encode_all(
        &mut self,
        missing: &[(&str, String)],
        encode: &mut EncodePrompt,
        progress: &dyn Progress,
        stop: &Stop,
    ) -> Result<()> {
        if missing.is_empty() {
            return Ok(());
        }
        let _no_grad = tch::no_grad_guard();
        progress.begin("encode", 0, missing.len() as u64);
        let mut result = Ok(());
        for (done, (prompt, key)) in missing.iter().enumerate() {
            let started = Instant::now();
            result = stop.check().map_err(Into::into).and_then(|()| {
                // The size of all follows from the first: only the encoder determines the size of an embedding.
                let bytes = self.encode_one(prompt, key, encode)? * missing.len() as u64;
                announce("prompts", done, missing.len(), bytes, &self.options.cache_dir, started, progress);
                if done == 0 { check_cache_space(&self.options.cache_dir, bytes) } else { Ok(()) }
            });
            if result.is_err() {
                break;
            }
            progress.advance(done as u64 + 1, "");
        }
        progress.end();
        result
    }

    /// Encodes and stores one prompt; returns the bytes of its record.
    fn encode_one(&mut self, prompt: &str, key: &str, encode: &mut EncodePrompt) -> Result<u64> {
        let encoded = encode(prompt).with_context(|| format!("encoding the prompt \"{prompt}\""))?;
        let mut record = Record::new();
        for (name, value) in encoded.iter() {
            ensure!(
                value.size().first() == Some(&1),
                "the encoder's {name} has the shape {:?}, expected one row",
                value.size()
            );
            // [1, ..] -> [..]
            let value = value.detach().to_device(Device::Cpu).squeeze_dim(0).to_kind(self.options.dtype.kind());
            if !is_finite(&value)? {
                bail!(
                    "the embedding ({name}) of the prompt \"{prompt}\" is not finite in {}",
                    self.options.dtype.name()
                );
            }
            record.insert(name.into(), value.contiguous());
        }
        let bytes = record.values().map(|t| t.numel() * t.kind().elt_size_in_bytes()).sum::<usize>() as u64;
        self.records.put(key.to_string(), record)?;
        Ok(bytes)
    }

    /// Embeddings of prompts, one row per prompt, in float32: `[B, ..]` under the names of the encoder.
    ///
    /// # Errors
    /// A prompt that was never ensured, a record damaged since, no prompts.
    pub fn conditioning(&self, prompts: &[&str]) -> Result<Conditioning> {
        let one = |prompt: &&str| -> Result<Conditioning> {
            let record = self.records.get(&self.key(prompt))?;
            let record = record.with_context(|| format!("the prompt \"{prompt}\" was not encoded"))?;
            let named =
                record.into_iter().map(|(name, value)| (current(name), value.to_kind(Kind::Float).unsqueeze(0)));
            Ok(Conditioning::new(named))
        };
        ensure!(!prompts.is_empty(), "conditioning of no prompts");
        let rows = prompts.iter().map(one).collect::<Result<Vec<_>>>()?;
        Conditioning::stacked(&rows.iter().collect::<Vec<_>>()).context("cache records of different encoders")
    }
}

/// The name of an embedding; caches of version 0.1 shortened one.
fn current(name: String) -> String {
    if name == "pooled" { POOLED_PROMPT_EMBEDS.into() } else { name }
}
