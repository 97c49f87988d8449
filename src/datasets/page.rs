//! The contact sheet of `diffpref data inspect`: figures and random rows in one self-contained page.

use super::summary::{Inspection, Scores};
use crate::data::items::Preference;
use crate::data::row::Row;
use crate::report::pictures::thumbnail;
use crate::report::template;
use anyhow::Result;
use serde::Serialize;

/// Larger side of a picture, in pixels.
const SIDE: u32 = 192;

#[derive(Serialize)]
struct Page<'a> {
    title: String,
    lines: Vec<(String, String)>,
    scores: &'a [Scores],
    rows: Vec<Shown>,
}

#[derive(Serialize)]
struct Shown {
    id: String,
    prompt: String,
    images: Vec<Picture>,
}

#[derive(Serialize)]
struct Picture {
    /// A `data:` address; empty if the image cannot be read.
    address: String,
    /// Place in the preference, or the reason why there is no picture.
    note: String,
}

/// The page.
///
/// # Errors
/// A template that does not fit.
pub fn html(inspection: &Inspection, sample: &[Row]) -> Result<String> {
    let page = Page {
        title: format!("{}: {} rows", inspection.path.display(), inspection.rows),
        lines: inspection.lines(),
        scores: &inspection.scores,
        rows: sample.iter().map(shown).collect(),
    };
    template::filled("inspect.html", include_str!("inspect.html"), &page)
}

fn shown(row: &Row) -> Shown {
    let picture = |(place, image)| {
        let (address, problem) = match thumbnail(image, SIDE) {
            Ok(address) => (address, None),
            Err(error) => (String::new(), Some(format!("{error:#}"))),
        };
        Picture { address, note: problem.unwrap_or_else(|| note(row, place)) }
    };
    Shown {
        id: row.id.clone().unwrap_or_default(),
        prompt: row.prompt.clone(),
        images: row.images.iter().enumerate().map(picture).collect(),
    }
}

fn note(row: &Row, place: usize) -> String {
    let judged = match &row.preference {
        Preference::Pair { tie: true } => "tie".to_string(),
        Preference::Pair { tie: false } => ["winner", "loser"].get(place).copied().unwrap_or_default().to_string(),
        Preference::List { phi } => format!("wins {:.2}", phi.get(place).copied().unwrap_or_default()),
        Preference::Label { desirable } => if *desirable { "desirable" } else { "undesirable" }.to_string(),
    };
    let scores = row.scores.iter().filter_map(|(name, of)| Some(format!("{name} {:.3}", of.get(place)?)));
    let generator = row.generators.get(place).cloned();
    std::iter::once(judged).chain(generator).chain(scores).collect::<Vec<_>>().join(", ")
}
