//! The internal form of a row: what readers of all formats make, before ids, relabelling and split.

use super::image_ref::ImageRef;
use super::item::{ItemKind, Preference, Strength};
use std::collections::BTreeMap;
use std::fmt::{Display, Formatter};
use std::path::Path;
use std::sync::Arc;

/// One row, as its file says it.
#[derive(Debug, Clone, PartialEq)]
pub struct Row {
    /// `None`: the number of the row.
    pub id: Option<String>,
    pub prompt: String,
    /// Winner and loser of a pair.
    pub images: Vec<ImageRef>,
    pub preference: Preference,
    /// One score per image.
    pub scores: BTreeMap<String, Vec<f64>>,
    pub weight: Option<f64>,
    /// Who compared the images.
    pub user: Option<String>,
    /// Dimension -> share of the winner in it: 1 it is better, 0 the loser is, 0.5 neither.
    pub labels: BTreeMap<String, f64>,
    /// Share of the votes for the winner.
    pub share: Option<f64>,
    /// How certain several scorers are that the winner is better.
    pub strength: Option<Strength>,
    /// The model that made each image; empty where the file does not say it.
    pub generators: Vec<String>,
    /// Fields without meaning for this kind; ignored and named in the data report.
    pub unknown: Vec<String>,
}

impl Row {
    /// A row with nothing but what every row has.
    pub fn new(prompt: String, images: Vec<ImageRef>, preference: Preference) -> Self {
        Self {
            id: None,
            prompt,
            images,
            preference,
            scores: BTreeMap::new(),
            weight: None,
            user: None,
            labels: BTreeMap::new(),
            share: None,
            strength: None,
            generators: Vec::new(),
            unknown: Vec::new(),
        }
    }

    pub fn kind(&self) -> ItemKind {
        self.preference.kind()
    }
}

/// The content of one place of a data set.
#[derive(Debug, Clone, PartialEq)]
pub enum Entry {
    Row(Box<Row>),
    /// Images that nobody compared. They are counted and not used.
    Unlabelled,
}

impl From<Row> for Entry {
    fn from(row: Row) -> Self {
        Self::Row(Box::new(row))
    }
}

/// A row of a file, for messages: a line of a text file, a row of a table, an entry of a list, counted from 1.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Place {
    pub file: Arc<Path>,
    pub row: usize,
}

impl Display for Place {
    fn fmt(&self, f: &mut Formatter) -> std::fmt::Result {
        write!(f, "{}:{}", self.file.display(), self.row)
    }
}
