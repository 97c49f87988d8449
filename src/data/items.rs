//! The training and validation items of a run.

use super::draws::held_out;
use super::filters::Filtered;
use super::findings::Findings;
use super::index::Index;
use crate::machine::hashes;
use anyhow::{Context, Result, bail};
use std::collections::BTreeSet;
use std::path::PathBuf;

pub use super::image_ref::ImageRef;
pub use super::item::{Item, ItemKind, Preference, Strength};
pub use super::ranking::Labels;
pub use super::read_options::{Holdout, ReadOptions, Ties, WrongKind};
pub use super::sources::Format;

/// The items of a run, in the order of their file.
#[derive(Debug, Clone, PartialEq)]
pub struct ItemSet {
    pub train: Vec<Item>,
    pub validation: Vec<Item>,
    /// The file or folder that names the data set.
    pub index: PathBuf,
    pub format: Format,
    /// Kind of its rows; the items may be labelled images made of its pairs.
    pub kind: ItemKind,
    /// SHA-256 of the index file (with a validation file: of both hashes).
    pub index_sha256: String,
    /// Rows of the index.
    pub rows: usize,
    /// Ids of dropped ties.
    pub dropped_ties: Vec<String>,
    /// Ids of pairs dropped for equal scores or a tied vote.
    pub dropped_labels: Vec<String>,
    /// Number of rows whose images nobody compared.
    pub unlabelled: usize,
    /// Number of rows left out by filters.
    pub filtered: Filtered,
    /// Faults of the pairs of the data file that are left, by the places of their images.
    pub findings: Findings,
    /// Ignored fields without meaning for the kind.
    pub ignored_fields: BTreeSet<String>,
}

impl ItemSet {
    /// Reads and checks every row. Only the index is read, not the images.
    ///
    /// # Errors
    /// [`WrongKind`]; a row that does not parse, a missing field or score, a duplicate id, refused ties, no training
    /// items, labelled images of one class only. The text names file and line.
    pub fn read(options: &ReadOptions) -> Result<Self> {
        let set = Self::read_any_class(options)?;
        set.refuse_one_class(options.wanted)?;
        Ok(set)
    }

    /// [`read`](Self::read) without the check for both classes.
    ///
    /// # Errors
    /// Those of [`read`](Self::read); labels may be all of one class.
    pub fn read_any_class(options: &ReadOptions) -> Result<Self> {
        let main = Index::read(&options.path, options)?;
        let mut set = Self {
            train: Vec::new(),
            validation: Vec::new(),
            index: main.path,
            format: main.format,
            kind: main.kind,
            index_sha256: main.sha256,
            rows: main.rows,
            dropped_ties: main.dropped_ties,
            dropped_labels: main.dropped_labels,
            unlabelled: main.unlabelled,
            filtered: main.filtered,
            findings: main.findings,
            ignored_fields: main.ignored_fields,
        };
        match &options.holdout {
            Holdout::Fraction(fraction) => {
                (set.validation, set.train) = main.items.into_iter().partition(|i| held_out(&i.prompt, *fraction));
            }
            Holdout::File(path) => {
                // The format of data.path says nothing about this file.
                let recognised = ReadOptions { format: None, ..options.clone() };
                let other = Index::read(path, &recognised).context("[validate] path")?;
                set.index_sha256 = hashes::of_bytes(format!("{}:{}", set.index_sha256, other.sha256).as_bytes());
                set.dropped_ties.extend(other.dropped_ties);
                set.dropped_labels.extend(other.dropped_labels);
                set.unlabelled += other.unlabelled;
                other.filtered.into_iter().for_each(|(reason, n)| *set.filtered.entry(reason).or_default() += n);
                (set.train, set.validation) = (main.items, other.items);
            }
        }
        set.refuse_nothing_left(options.wanted)?;
        Ok(set)
    }

    /// Reads the images of pairs or of labelled images for a method that uses one image per item, whatever its label.
    ///
    /// # Errors
    /// Those of [`read`](Self::read); labels may be all of one class.
    pub fn read_images(options: &ReadOptions) -> Result<Self> {
        let labels = ReadOptions { wanted: ItemKind::Labels, ..options.clone() };
        match Self::read(options) {
            Err(e) if e.downcast_ref::<WrongKind>().is_some_and(|kind| kind.holds == ItemKind::Labels) => {
                Self::read_any_class(&labels)
            }
            read => read,
        }
    }

    /// The empty set, for a method without items.
    pub fn none() -> Self {
        Self {
            train: Vec::new(),
            validation: Vec::new(),
            index: PathBuf::new(),
            format: Format::Pairs,
            kind: ItemKind::Pairs,
            index_sha256: hashes::of_bytes(b""),
            rows: 0,
            dropped_ties: Vec::new(),
            dropped_labels: Vec::new(),
            unlabelled: 0,
            filtered: Filtered::new(),
            findings: Findings::default(),
            ignored_fields: BTreeSet::new(),
        }
    }

    fn refuse_nothing_left(&self, wanted: ItemKind) -> Result<()> {
        if self.train.is_empty() {
            bail!(
                "{}: all {} {} are held out for validation, none is left to train on; lower validate.fraction",
                self.index.display(),
                self.validation.len(),
                wanted.noun()
            );
        }
        Ok(())
    }

    fn refuse_one_class(&self, wanted: ItemKind) -> Result<()> {
        let labelled =
            |wanted: bool| self.train.iter().any(|item| item.preference == Preference::Label { desirable: wanted });
        if wanted == ItemKind::Labels && labelled(true) != labelled(false) {
            let (all, missing) =
                if labelled(true) { ("desirable", "undesirable") } else { ("undesirable", "desirable") };
            bail!(
                "{}: all {} images to train on are {all}, expected some that are {missing} too; add rows of them, or \
                 lower validate.fraction if it holds them out",
                self.index.display(),
                self.train.len()
            );
        }
        Ok(())
    }

    /// Least and greatest score of `scorer` over all images of the training items; `None` without scores.
    pub fn score_range(&self, scorer: &str) -> Option<[f64; 2]> {
        let scores = self.train.iter().filter_map(|item| item.scores.get(scorer)).flatten();
        scores.fold(None, |range: Option<[f64; 2]>, score| {
            let [low, high] = range.unwrap_or([*score; 2]);
            Some([low.min(*score), high.max(*score)])
        })
    }
}

/// SHA-256 of a data set: its index and its images, whatever its folder is called. `images` are SHA-256 digests in
/// hex, in any order.
pub fn data_sha256<'a>(index_sha256: &str, images: impl IntoIterator<Item = &'a str>) -> String {
    let images: BTreeSet<&str> = images.into_iter().collect();
    let mut text = format!("index:{index_sha256}\n");
    for image in images {
        text.push_str(image);
        text.push('\n');
    }
    hashes::of_bytes(text.as_bytes())
}
