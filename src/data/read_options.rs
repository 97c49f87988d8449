//! Source and treatment of items.

use super::filters::Filters;
use super::item::ItemKind;
use super::ranking::Labels;
use super::sources::Format;
use std::path::PathBuf;

crate::choice! {
    /// `[data] ties`: treatment of pairs whose row says "tie".
    #[derive(Default)]
    pub enum Ties {
        #[default]
        Drop = "drop",
        /// They stay ties, in the order of their row, whatever their scores.
        Keep = "keep",
        Error = "error",
    }
}

/// The held-out items.
#[derive(Debug, Clone, PartialEq)]
pub enum Holdout {
    /// All items of about this fraction of the prompts, see [`held_out`](super::draws::held_out).
    Fraction(f64),
    /// The items of another file (or folder); nothing is held out of the training file.
    File(PathBuf),
}

/// Source and treatment of items.
#[derive(Debug, Clone, PartialEq)]
pub struct ReadOptions {
    pub path: PathBuf,
    /// `None`: recognised from the files.
    pub format: Option<Format>,
    /// Kind of the training items. Labelled images may be made of pairs; no other kind can be converted.
    pub wanted: ItemKind,
    pub ties: Ties,
    /// Labeller of pairs; without meaning for lists and labelled images.
    pub labels: Labels,
    /// Winner and loser of every pair are exchanged, after relabelling.
    pub swapped: bool,
    /// A scorer whose scores every pair must have.
    pub scorer: Option<String>,
    pub holdout: Holdout,
    /// Rows that are left out.
    pub filters: Filters,
}

/// A file holds rows of another kind than the method trains on.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{} holds {}, expected {}", file.display(), holds.noun(), wanted.noun())]
pub struct WrongKind {
    pub file: PathBuf,
    pub holds: ItemKind,
    pub wanted: ItemKind,
}
