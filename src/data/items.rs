//! What a run trains on, whatever its kind: an item is a prompt, its images, and what somebody thought of them.

use serde::{Deserialize, Serialize};

/// The kinds of rows a data file may hold, and a method may train on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ItemKind {
    /// A winner and a loser.
    Pairs,
    /// k ranked images.
    Lists,
    /// One image, desirable or not.
    Labels,
}

impl ItemKind {
    /// As `data.format` and messages call it.
    pub fn name(self) -> &'static str {
        match self {
            ItemKind::Pairs => "pairs",
            ItemKind::Lists => "lists",
            ItemKind::Labels => "labels",
        }
    }
}

/// What is known of an item's images.
#[derive(Debug, Clone, PartialEq)]
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

impl Preference {
    pub fn kind(&self) -> ItemKind {
        match self {
            Preference::Pair { .. } => ItemKind::Pairs,
            Preference::List { .. } => ItemKind::Lists,
            Preference::Label { .. } => ItemKind::Labels,
        }
    }
}
