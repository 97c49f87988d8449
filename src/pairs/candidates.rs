//! Candidates of every prompt, with the chosen numbers.

use super::majority::Majority;
use super::measures::Chosen;
use super::vote::Vote;
use crate::score::{Columns, Row, ScoredRow, read_pictures, read_scores};
use anyhow::{Context, Result, bail};
use serde_json::Value;
use std::collections::HashMap;
use std::path::{Path, PathBuf};

/// Pictures that a message lists.
const NAMED: usize = 3;

/// A prompt and its pictures.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Candidates {
    pub prompt: String,
    pub pictures: Vec<PathBuf>,
    /// Generators, for calibration.
    pub models: Vec<Option<String>>,
    /// `[measures][pictures]`; higher is better.
    pub numbers: Vec<Vec<f64>>,
    /// Votes of people in place of numbers; else empty.
    pub votes: Vec<Vote>,
    /// c in [0, 1]: agreement of two rankings of these candidates by models (`--consistency-with`).
    pub confidence: Option<f64>,
}

impl Candidates {
    /// The place of a picture, which is added if it is new.
    pub fn place(&mut self, picture: PathBuf) -> usize {
        if let Some(place) = self.pictures.iter().position(|known| *known == picture) {
            return place;
        }
        self.pictures.push(picture);
        self.models.push(None);
        self.pictures.len() - 1
    }

    /// Pairwise majorities of the votes, or of measures with these weights.
    pub fn majority(&self, weights: &[f64]) -> Majority {
        match self.votes.is_empty() {
            true => Majority::of(&self.numbers, weights, self.pictures.len()),
            false => Majority::of_votes(&self.votes, self.pictures.len()),
        }
    }
}

/// A row with its place in messages.
struct Read {
    row: ScoredRow,
    place: String,
}

/// Rows of all files, those of one picture and prompt merged, with existing pictures. `newest`: a prompt that several
/// files have keeps its rows of the last one.
///
/// # Errors
/// A row without a prompt, a missing picture, a scorer that is in two files.
pub fn rows(files: &[PathBuf], newest: bool) -> Result<Vec<ScoredRow>> {
    merged(files, newest, |file| {
        let dir = file.parent().unwrap_or(Path::new(""));
        let numbered = read_scores(file)?.into_iter().enumerate();
        let read = |(index, row): (usize, ScoredRow)| Read {
            place: format!("{}, row {}", file.display(), index + 1),
            row: ScoredRow { picture: dir.join(&row.picture), ..row },
        };
        Ok(numbered.map(read).collect())
    })
}

/// Pictures with prompts and without numbers, as `diffpref score` reads them: folders, or tables that name pictures.
///
/// # Errors
/// Those of [`rows`].
pub fn unrated(inputs: &[PathBuf], newest: bool) -> Result<Vec<ScoredRow>> {
    merged(inputs, newest, |input| {
        let pictures = read_pictures(input, &Columns::default())?;
        let read = |row: Row| Read {
            place: row.place,
            row: ScoredRow { picture: row.picture, prompt: row.prompt, scores: Default::default(), rest: row.rest },
        };
        Ok(pictures.into_iter().map(read).collect())
    })
}

fn merged(files: &[PathBuf], newest: bool, read: impl Fn(&Path) -> Result<Vec<Read>>) -> Result<Vec<ScoredRow>> {
    let mut rows: Vec<ScoredRow> = Vec::new();
    let mut places: HashMap<(PathBuf, String), usize> = HashMap::new();
    let files = files.iter().map(|file| read(file)).collect::<Result<Vec<_>>>()?;
    let last = last_files(&files);
    for (number, file) in files.into_iter().enumerate() {
        for Read { mut row, place } in file {
            row.picture = row
                .picture
                .canonicalize()
                .with_context(|| format!("{place}: cannot find {}", row.picture.display()))?;
            let Some(prompt) = row.prompt.clone() else {
                bail!("{place}: no prompt; pairs compare pictures of one prompt, so score rows with prompts");
            };
            if newest && last.get(&prompt) != Some(&number) {
                continue;
            }
            match places.get(&(row.picture.clone(), prompt.clone())) {
                None => {
                    places.insert((row.picture.clone(), prompt), rows.len());
                    rows.push(row);
                }
                Some(known) => {
                    let known = &mut rows[*known];
                    if let Some(scorer) = row.scores.keys().find(|scorer| known.scores.contains_key(*scorer)) {
                        bail!(
                            "{place}: the scorer \"{scorer}\" has rated {} for this prompt before; give each scorer in one \
                             file, or --newest for files of several rounds",
                            known.picture.display()
                        );
                    }
                    known.scores.extend(row.scores);
                }
            }
        }
    }
    Ok(rows)
}

/// Prompt -> number of the last file that has it.
fn last_files(files: &[Vec<Read>]) -> HashMap<String, usize> {
    let of_file = |(number, rows): (usize, &Vec<Read>)| {
        rows.iter().filter_map(|read| Some((read.row.prompt.clone()?, number))).collect::<Vec<_>>()
    };
    files.iter().enumerate().flat_map(of_file).collect()
}

/// Prompts in order of first appearance.
///
/// # Errors
/// Pictures that one of the measures has not rated.
pub fn by_prompt(rows: &[ScoredRow], measures: &[Chosen]) -> Result<Vec<Candidates>> {
    refuse_holes(rows, measures)?;
    let mut prompts: Vec<Candidates> = Vec::new();
    let mut places: HashMap<&str, usize> = HashMap::new();
    for row in rows {
        let prompt = row.prompt.as_deref().unwrap_or_default();
        let place = *places.entry(prompt).or_insert_with(|| {
            let numbers = vec![Vec::new(); measures.len()];
            prompts.push(Candidates { prompt: prompt.into(), numbers, ..Candidates::default() });
            prompts.len() - 1
        });
        let of = &mut prompts[place];
        of.pictures.push(row.picture.clone());
        of.models.push(row.rest.get("model").and_then(Value::as_str).map(String::from));
        for (numbers, measure) in of.numbers.iter_mut().zip(measures) {
            numbers.extend(measure.number(row));
        }
    }
    Ok(prompts)
}

fn refuse_holes(rows: &[ScoredRow], measures: &[Chosen]) -> Result<()> {
    for measure in measures {
        let holes: Vec<&ScoredRow> = rows.iter().filter(|row| measure.number(row).is_none()).collect();
        if holes.is_empty() {
            continue;
        }
        let named: Vec<String> = holes.iter().take(NAMED).map(|row| row.picture.display().to_string()).collect();
        let more = if holes.len() > NAMED { ", .." } else { "" };
        bail!(
            "{} of {} pictures have no {}: {}{more}. The scorers disagree on which pictures there are: rate all pictures by \
             `diffpref score` with every scorer, or leave this measure out of --by",
            holes.len(),
            rows.len(),
            measure.name(),
            named.join(", ")
        );
    }
    Ok(())
}
