//! A training item of any kind: a prompt, its images, and their preference.

use super::image_ref::ImageRef;
use serde::Serialize;
use std::collections::BTreeMap;

crate::choice! {
    /// The kinds of rows of a data file and of training items.
    pub enum ItemKind {
        /// A winner and a loser.
        Pairs = "pairs",
        /// k ranked images.
        Lists = "lists",
        /// One image, desirable or not.
        Labels = "labels",
    }
}

impl ItemKind {
    /// Name of such items in messages.
    pub fn noun(self) -> &'static str {
        match self {
            ItemKind::Pairs => "pairs",
            ItemKind::Lists => "lists",
            ItemKind::Labels => "labelled images",
        }
    }

    /// Required fields of a row of this kind.
    pub fn fields(self) -> &'static str {
        match self {
            ItemKind::Pairs => "prompt, winner and loser",
            ItemKind::Lists => "prompt, images and ranks or scores",
            ItemKind::Labels => "prompt, image and label",
        }
    }
}

/// Preference among an item's images.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub enum Preference {
    /// Images: winner, loser, as trained. A tie prefers neither.
    Pair {
        tie: bool,
    },
    /// Win fraction of every image over the others and all scorers, in [0, 1] (docs/methods.md, section 8).
    List {
        phi: Vec<f64>,
    },
    Label {
        desirable: bool,
    },
}

impl Default for Preference {
    fn default() -> Self {
        Preference::Pair { tie: false }
    }
}

impl Preference {
    /// Name of one such item in messages.
    pub fn noun(&self) -> &'static str {
        match self {
            Preference::Pair { .. } => "pair",
            Preference::List { .. } => "list",
            Preference::Label { .. } => "image",
        }
    }

    pub fn kind(&self) -> ItemKind {
        match self {
            Preference::Pair { .. } => ItemKind::Pairs,
            Preference::List { .. } => ItemKind::Lists,
            Preference::Label { .. } => ItemKind::Labels,
        }
    }

    /// True for a tied pair.
    pub fn is_tie(&self) -> bool {
        matches!(self, Preference::Pair { tie: true })
    }
}

/// Differences of several scorers on a pair, first image minus second.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Strength {
    pub mean: f64,
    /// Standard deviation over the scorers.
    pub std: f64,
    /// Chance that the first image is better, of a pair that is ambiguous.
    pub soft_label: Option<f64>,
}

impl Strength {
    /// Strength after the images are exchanged.
    pub fn exchanged(self) -> Self {
        Self { mean: -self.mean, soft_label: self.soft_label.map(|share| 1.0 - share), ..self }
    }
}

/// A prompt, its images and their preference.
#[derive(Debug, Clone, PartialEq)]
pub struct Item {
    /// The row's id as text, or its 0-based number: the last id of every draw of this item. Labelled images of pairs
    /// end in `:w` or `:l`.
    pub id: String,
    pub prompt: String,
    /// Images as trained: the winner of a pair first, a list in the order of the file. Their index is the `k` of
    /// draws.
    pub images: Vec<ImageRef>,
    pub preference: Preference,
    /// `weight` of the row, at least 0.
    pub weight: Option<f64>,
    /// Scorer -> one score per image, in their order.
    pub scores: BTreeMap<String, Vec<f64>>,
    /// Who compared the images.
    pub user: Option<String>,
    /// Dimension -> share of the first image in it: 1 it is better, 0 the second is, 0.5 neither.
    pub labels: BTreeMap<String, f64>,
    /// Share of the votes for the first image.
    pub share: Option<f64>,
    /// How certain several scorers are that the first image is better.
    pub strength: Option<Strength>,
    /// 0-based row over all files.
    pub row: usize,
}
