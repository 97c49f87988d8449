//! data-report.json: rows read, rows dropped, and the reasons.

use super::filters::{self, Filtered};
use super::findings::Findings;
use super::items::{ImageRef, ItemKind, ItemSet};
use crate::machine::files::write_atomically;
use anyhow::{Context, Result, bail};
use pipelines::text::Tokenizer;
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

/// Number of bad images listed in an error; the report has all of them.
const LISTED: usize = 5;
/// Number of them in a note.
const NAMED: usize = 3;

/// An unusable image and its effect.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct BadImage {
    pub image: String,
    pub reason: String,
    /// Ids of the items left out because of it.
    pub items: Vec<String>,
}

/// The content of data-report.json.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct DataReport {
    pub index: PathBuf,
    pub index_sha256: String,
    /// Kind of the index's rows.
    pub kind: ItemKind,
    pub rows: usize,
    /// Items left after row checks and split: `n`.
    pub train: usize,
    pub validation: usize,
    pub dropped_ties: Vec<String>,
    /// Pairs with equal scores or a tied vote.
    pub dropped_labels: Vec<String>,
    /// Number of rows whose images nobody compared.
    #[serde(default)]
    pub unlabelled: usize,
    /// Number of rows left out by filters, by reason.
    #[serde(default)]
    pub filtered: Filtered,
    /// Pairs that teach nothing or contradict each other, by the places of their images.
    #[serde(default)]
    pub findings: Findings,
    pub ignored_fields: Vec<String>,
    /// Items whose images are read by the planned steps and the validation.
    pub items_read: usize,
    /// Those left out because an image is unreadable.
    pub items_bad: usize,
    /// Those left out because an image is smaller than `data.min_size`.
    #[serde(default)]
    pub items_small: usize,
    pub bad_images: Vec<BadImage>,
    /// Prompts that are longer than the text encoder reads. The rest of them has no effect.
    #[serde(default)]
    pub prompts_cut: usize,
    /// Tokens of a prompt that the text encoder reads.
    #[serde(default)]
    pub prompt_tokens: i64,
}

impl DataReport {
    /// The report before any image is read.
    pub fn new(set: &ItemSet) -> Self {
        Self {
            index: set.index.clone(),
            index_sha256: set.index_sha256.clone(),
            kind: set.kind,
            rows: set.rows,
            train: set.train.len(),
            validation: set.validation.len(),
            dropped_ties: set.dropped_ties.clone(),
            dropped_labels: set.dropped_labels.clone(),
            unlabelled: set.unlabelled,
            filtered: set.filtered.clone(),
            findings: set.findings.clone(),
            ignored_fields: set.ignored_fields.iter().cloned().collect(),
            items_read: 0,
            items_bad: 0,
            items_small: 0,
            bad_images: Vec::new(),
            prompts_cut: 0,
            prompt_tokens: 0,
        }
    }

    /// Adds findings of reading images: `items` are the ids of the read items with those of their images;
    /// `unreadable` has the reason per bad image.
    pub fn add_images(&mut self, items: &[(&str, &[ImageRef])], unreadable: &BTreeMap<ImageRef, String>) {
        self.items_read = items.len();
        let mut bad: BTreeMap<&ImageRef, Vec<String>> = BTreeMap::new();
        self.items_bad = 0;
        for (id, images) in items {
            let images: Vec<&ImageRef> = images.iter().filter(|i| unreadable.contains_key(*i)).collect();
            self.items_bad += usize::from(!images.is_empty());
            for image in images {
                bad.entry(image).or_default().push(id.to_string());
            }
        }
        let reason = |image: &ImageRef| unreadable.get(image).cloned().unwrap_or_default();
        self.bad_images = bad
            .into_iter()
            .map(|(image, items)| BadImage { image: image.to_string(), reason: reason(image), items })
            .collect();
    }

    /// Counts the items that are left out for the size of an image, and for nothing else.
    pub fn add_small(&mut self, items: &[(&str, &[ImageRef])], small: &BTreeSet<ImageRef>) {
        let bad: BTreeSet<&String> = self.bad_images.iter().flat_map(|bad| &bad.items).collect();
        let is_small = |images: &[ImageRef]| images.iter().any(|image| small.contains(image));
        self.items_small =
            items.iter().filter(|(id, images)| is_small(images) && !bad.contains(&id.to_string())).count();
    }

    /// Adds the prompts that the text encoders of a model cut.
    ///
    /// # Errors
    /// A prompt that cannot be split into tokens.
    pub fn add_prompts<'a>(
        &mut self,
        prompts: impl IntoIterator<Item = &'a String>,
        tokenizers: &[Tokenizer],
    ) -> Result<()> {
        // Without start and end.
        self.prompt_tokens = tokenizers.iter().map(|tokenizer| tokenizer.length() - 2).min().unwrap_or_default();
        for prompt in prompts {
            let cut = tokenizers.iter().map(|tokenizer| tokenizer.tokens_cut(prompt));
            let most = cut.collect::<pipelines::Result<Vec<_>>>()?.into_iter().max().unwrap_or_default();
            self.prompts_cut += usize::from(most > 0);
        }
        Ok(())
    }

    /// Findings of reading rows, without the images: one sentence each.
    pub fn notes_of_rows(&self) -> Vec<String> {
        let unlabelled = format!("{} of {} rows have no label and are not used", self.unlabelled, self.rows);
        let unlabelled = (self.unlabelled > 0).then_some(unlabelled);
        unlabelled.into_iter().chain(filters::notes(&self.filtered, self.rows)).chain(self.findings.notes()).collect()
    }

    /// Findings that a user should know of, one sentence each.
    pub fn notes(&self) -> Vec<String> {
        let mut notes = self.notes_of_rows();
        if self.items_small > 0 {
            notes.push(format!(
                "{} of {} items have an image below data.min_size and are left out",
                self.items_small, self.items_read
            ));
        }
        if self.items_bad > 0 {
            let named = self.bad_images.iter().take(NAMED).map(|bad| format!("{}: {}", bad.image, bad.reason));
            let more = self.bad_images.len().saturating_sub(NAMED);
            notes.push(format!(
                "{} of {} items are left out, because images cannot be used ({}{})",
                self.items_bad,
                self.items_read,
                named.collect::<Vec<_>>().join("; "),
                if more > 0 { format!("; and {more} more, all in data-report.json") } else { String::new() }
            ));
        }
        if self.prompts_cut > 0 {
            notes.push(format!(
                "{} prompts are longer than the {} tokens of the text encoder and are cut",
                self.prompts_cut, self.prompt_tokens
            ));
        }
        notes
    }

    /// Fails if more than `max_bad_fraction` of the read items are unusable.
    pub fn check(&self, max_bad_fraction: f64) -> Result<()> {
        if self.items_bad == 0 || self.items_bad as f64 <= max_bad_fraction * self.items_read as f64 {
            return Ok(());
        }
        let mut lines: Vec<String> =
            self.bad_images.iter().take(LISTED).map(|b| format!("\n  {}: {}", b.image, b.reason)).collect();
        if self.bad_images.len() > LISTED {
            lines.push(format!("\n  and {} more, all in data-report.json", self.bad_images.len() - LISTED));
        }
        bail!(
            "{}: {} of {} items have an image that cannot be used, above \
             data.max_bad_fraction = {max_bad_fraction}:{}\n\
             restore these images, remove their rows, or raise data.max_bad_fraction",
            self.index.display(),
            self.items_bad,
            self.items_read,
            lines.concat()
        );
    }

    /// Writes the report to `file`, the run's data-report.json.
    pub fn write(&self, file: &Path) -> Result<()> {
        let mut text = serde_json::to_vec_pretty(self).context("data-report.json")?;
        text.push(b'\n');
        write_atomically(file, &text)
    }
}
