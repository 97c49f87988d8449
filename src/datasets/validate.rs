//! `diffpref data validate` as a library call: every row and every image, with the reasons.

use super::contents::{Seen, read};
use crate::data::findings::{Marks, marks};
use crate::data::items::{Format, ImageRef, ItemKind};
use crate::data::row::{Entry, Place, Row};
use crate::data::sources;
use crate::progress::{Progress, Stop};
use anyhow::Result;
use serde::Serialize;
use std::collections::{BTreeMap, HashMap};
use std::path::PathBuf;

/// Options of `diffpref data validate`.
#[derive(Debug, Clone)]
pub struct ValidateRequest {
    pub path: PathBuf,
    /// `None`: recognised.
    pub format: Option<Format>,
    /// Threads that read images.
    pub workers: usize,
}

/// A problem of a row or image.
#[derive(Debug, Clone, Serialize)]
pub struct Problem {
    /// File and row.
    pub place: String,
    pub kind: ProblemKind,
    pub reason: String,
}

crate::choice! {
    /// Kinds of problems.
    #[derive(PartialOrd, Ord)]
    pub enum ProblemKind {
        Row = "row refused",
        Id = "id not unique",
        MixedKinds = "rows of two kinds",
        Image = "image unreadable",
        SamePixels = "winner and loser have the same pixels",
        Repeated = "pair repeated",
        Contradiction = "pair contradicted",
    }
}

/// The result of a validation.
#[derive(Debug, Serialize)]
pub struct Validation {
    pub path: PathBuf,
    pub format: Format,
    pub rows: usize,
    pub unlabelled: usize,
    pub images: usize,
    /// Kind -> number of problems.
    pub counts: BTreeMap<&'static str, usize>,
    pub problems: Vec<Problem>,
}

/// Reads all rows and images.
///
/// # Errors
/// Files of no known format or that cannot be read at all; `Stopped`. Problems of rows are in the result.
pub fn validate(request: &ValidateRequest, progress: &dyn Progress, stop: &Stop) -> Result<Validation> {
    let opened = sources::open(&request.path, request.format)?;
    let mut check = Check::default();
    opened.read(ItemKind::Lists, &mut |place, entry| {
        stop.check()?;
        check.add(place, entry);
        Ok(())
    })?;
    let images = check.images();
    let seen = read(&images, request.workers, progress, stop)?;
    let seen: HashMap<&ImageRef, _> = images.iter().zip(seen).collect();
    check.add_images(&images, &seen);
    let kind = check.kind.unwrap_or(ItemKind::Pairs);
    let mut counts: BTreeMap<&'static str, usize> = BTreeMap::new();
    check.problems.iter().for_each(|problem| *counts.entry(problem.kind.name()).or_default() += 1);
    Ok(Validation {
        path: request.path.clone(),
        format: opened.format().kind().map_or(opened.format(), |_| Format::of_kind(kind)),
        rows: check.entries,
        unlabelled: check.unlabelled,
        images: images.len(),
        counts,
        problems: check.problems,
    })
}

#[derive(Default)]
struct Check {
    entries: usize,
    unlabelled: usize,
    kind: Option<ItemKind>,
    rows: Vec<(Place, Row)>,
    ids: HashMap<String, String>,
    problems: Vec<Problem>,
}

impl Check {
    fn problem(&mut self, place: &Place, kind: ProblemKind, reason: String) {
        self.problems.push(Problem { place: place.to_string(), kind, reason });
    }

    fn add(&mut self, place: Place, entry: Result<Entry, String>) {
        let number = self.entries;
        self.entries += 1;
        let row = match entry {
            Ok(Entry::Row(row)) => *row,
            Ok(Entry::Unlabelled) => {
                self.unlabelled += 1;
                return;
            }
            Err(reason) => return self.problem(&place, ProblemKind::Row, reason),
        };
        let first = *self.kind.get_or_insert(row.kind());
        if row.kind() != first {
            let reason = format!("this row is one of {}, the first ones are {}", row.kind().noun(), first.noun());
            self.problem(&place, ProblemKind::MixedKinds, reason);
        }
        let id = row.id.clone().unwrap_or_else(|| number.to_string());
        if let Some(earlier) = self.ids.insert(id.clone(), place.to_string()) {
            self.problem(&place, ProblemKind::Id, format!("the id {id:?} is that of {earlier} too"));
        }
        self.rows.push((place, row));
    }

    /// Distinct images in the order of the rows.
    fn images(&self) -> Vec<ImageRef> {
        let mut known = std::collections::HashSet::new();
        let all = self.rows.iter().flat_map(|(_, row)| &row.images);
        all.filter(|image| known.insert(*image)).cloned().collect()
    }

    fn add_images(
        &mut self,
        images: &[ImageRef],
        seen: &HashMap<&ImageRef, Result<Seen, crate::data::unreadable::Unreadable>>,
    ) {
        let mut users: HashMap<&ImageRef, Place> = HashMap::new();
        for (place, row) in &self.rows {
            for image in &row.images {
                users.entry(image).or_insert_with(|| place.clone());
            }
        }
        let unreadable: Vec<(Place, String)> = images
            .iter()
            .filter_map(|image| {
                let reason = seen.get(image)?.as_ref().err()?;
                Some((users.get(image)?.clone(), format!("{image}: {reason}")))
            })
            .collect();
        for (place, reason) in unreadable {
            self.problem(&place, ProblemKind::Image, reason);
        }
        let ok = |image: &ImageRef| seen.get(image).and_then(|seen| seen.as_ref().ok()).copied();
        let mut pairs = Vec::new();
        for (index, (_, row)) in self.rows.iter().enumerate() {
            if let (ItemKind::Pairs, [winner, loser]) = (row.kind(), row.images.as_slice())
                && let (Some(winner), Some(loser)) = (ok(winner), ok(loser))
            {
                pairs.push((index, winner, loser));
            }
        }
        let by_bytes: Vec<_> = pairs
            .iter()
            .map(|(index, w, l)| {
                let row = &self.rows[*index].1;
                (row.prompt.as_str(), w.bytes, l.bytes, row.preference.is_tie())
            })
            .collect();
        let marks = marks(&by_bytes);
        for ((index, winner, loser), mark) in pairs.into_iter().zip(marks) {
            self.add_marks(index, winner.pixels == loser.pixels, mark);
        }
    }

    fn add_marks(&mut self, index: usize, same_pixels: bool, mark: Marks) {
        let (place, row) = &self.rows[index];
        let (place, prompt) = (place.clone(), format!("{:?}", row.prompt));
        if same_pixels {
            self.problem(&place, ProblemKind::SamePixels, format!("of the prompt {prompt}; the pair teaches nothing"));
        }
        if mark.repeated {
            self.problem(&place, ProblemKind::Repeated, format!("an earlier row has the same images for {prompt}"));
        }
        if mark.contradicting {
            let reason = format!("another row has winner and loser the other way round for {prompt}");
            self.problem(&place, ProblemKind::Contradiction, reason);
        }
    }
}
