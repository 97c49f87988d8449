//! `diffpref score` as a library call.

use super::input::{self, Columns, Row};
use super::output::{self, ScoredRow, Scores};
use super::pictures::{self, Picture};
use super::rater::{Asked, Rater};
use super::report;
use super::summary::{Column, Oriented, ScoredBy, Summary, Unreadable, agreement};
use crate::keys::ConfigError;
use crate::machine::files::{relative_to, write_atomically};
use crate::machine::hashes::HashMemory;
use crate::progress::{Progress, Stop};
use crate::scorers::{Named, ScorerSpec};
use anyhow::{Context, Result, bail};
use pipelines::weights::LoadOptions;
use std::collections::{BTreeMap, HashSet};
use std::path::{Path, PathBuf};
use std::time::Instant;
use tch::{Device, Kind};

/// Unreadable pictures that a message lists.
const NAMED: usize = 3;

/// Options of `diffpref score`.
#[derive(Debug, Clone)]
pub struct Request {
    /// Folder, .jsonl, .csv, .tsv or .parquet.
    pub input: PathBuf,
    pub picture_column: Option<String>,
    pub prompt_column: Option<String>,
    /// At least one.
    pub scorers: Vec<ScorerSpec>,
    pub device: Device,
    pub kind: Kind,
    /// Pictures decoded and rated at once.
    pub batch: usize,
    /// Largest share of pictures that may be unreadable.
    pub max_bad_fraction: f64,
    /// Whether report.html is written.
    pub report: bool,
    pub out: PathBuf,
    /// Folder of stored numbers and hashes.
    pub cache_dir: PathBuf,
}

/// Rates every picture by every scorer; writes scores.jsonl, scores.json and, if wanted, report.html. Numbers are stored
/// batch by batch: a second call rates only what is missing.
///
/// # Errors
/// Unusable input or options, a scorer that fails, [`crate::progress::Stopped`] after a signal.
pub fn score(request: &Request, progress: &dyn Progress, stop: &Stop) -> Result<Summary> {
    if request.scorers.is_empty() {
        return Err(
            ConfigError("there is no scorer: give --scorer NAME[=PATH]; `diffpref scorers` lists them".into()).into()
        );
    }
    let columns = Columns { picture: request.picture_column.clone(), prompt: request.prompt_column.clone() };
    let (rows, repeated) = distinct(input::read(&request.input, &columns)?);
    let mut hashes = HashMemory::open(&request.cache_dir);
    let mut raters = open(request, &rows, &mut hashes)?;
    let (pictures, missing) = pictures::of_rows(&rows, &mut hashes, stop)?;
    hashes.save();
    let bad = missing.into_iter().map(|(picture, reason)| Unreadable { picture, reason }).collect();
    let mut work = Work { request, rows: &rows, pictures: &pictures, bad, seconds: 0.0 };
    work.check_bad()?;
    work.rate(&mut raters, progress, stop)?;
    let Work { bad, seconds, .. } = work;
    finish(request, &rows, &pictures, &raters, Left { repeated, unreadable: bad, seconds })
}

/// Rows without those that repeat a picture and prompt, and the number of the latter.
fn distinct(rows: Vec<Row>) -> (Vec<Row>, usize) {
    let all = rows.len();
    let mut seen = HashSet::new();
    let rows: Vec<Row> =
        rows.into_iter().filter(|row| seen.insert((row.picture.clone(), row.prompt.clone()))).collect();
    let repeated = all - rows.len();
    (rows, repeated)
}

fn open(request: &Request, rows: &[Row], hashes: &mut HashMemory) -> Result<Vec<Rater>> {
    let options = LoadOptions { device: request.device, kind: request.kind };
    let named = Named::open_all(&request.scorers, options, None).context("--scorer")?;
    let mut raters = Vec::new();
    for (spec, named) in request.scorers.iter().zip(named) {
        let rater = Rater::new(spec.clone(), named, &request.cache_dir, hashes)?;
        rater.check(rows.iter().map(|row| (row.place.as_str(), row.prompt.as_deref())))?;
        raters.push(rater);
    }
    Ok(raters)
}

/// Rating in batches.
struct Work<'a> {
    request: &'a Request,
    rows: &'a [Row],
    pictures: &'a [Picture],
    bad: Vec<Unreadable>,
    seconds: f64,
}

impl Work<'_> {
    fn prompts<'b>(&'b self, picture: &'b Picture) -> impl Iterator<Item = &'b str> {
        picture.rows.iter().map(|row| self.rows[*row].prompt.as_deref().unwrap_or_default())
    }

    fn is_known(&self, picture: &Picture, raters: &[Rater]) -> bool {
        self.prompts(picture).all(|prompt| raters.iter().all(|rater| rater.known(&picture.hash, prompt).is_some()))
    }

    fn rate(&mut self, raters: &mut [Rater], progress: &dyn Progress, stop: &Stop) -> Result<()> {
        let began = Instant::now();
        let pictures = self.pictures;
        let wanted: Vec<&Picture> = pictures.iter().filter(|picture| !self.is_known(picture, raters)).collect();
        let (all, known) = (pictures.len() as u64, (pictures.len() - wanted.len()) as u64);
        progress.line(&format!("{all} pictures, {known} rated before"));
        progress.begin("score", known, all);
        let paths: Vec<&Path> = wanted.iter().map(|picture| picture.path.as_path()).collect();
        let mut done = 0;
        let rated = pictures::decoded(&paths, self.request.batch, |batch| {
            stop.check()?;
            let of_batch = &wanted[done..done + batch.len()];
            let mut asked = Vec::new();
            for (picture, decoded) in of_batch.iter().zip(&batch) {
                match decoded {
                    Ok(image) => asked.push((image, *picture)),
                    Err(reason) => {
                        self.bad.push(Unreadable { picture: picture.path.clone(), reason: reason.to_string() });
                    }
                }
            }
            self.check_bad()?;
            let asked: Vec<Asked> = asked
                .into_iter()
                .flat_map(|(image, picture)| {
                    self.prompts(picture).map(move |prompt| Asked { picture: image, hash: &picture.hash, prompt })
                })
                .collect();
            raters.iter_mut().try_for_each(|rater| rater.rate(&asked))?;
            done += batch.len();
            let speed = done as f64 / began.elapsed().as_secs_f64();
            progress.advance(known + done as u64, &format!("{speed:.1} pictures/s"));
            Ok(())
        });
        progress.end();
        self.seconds = began.elapsed().as_secs_f64();
        rated
    }

    /// Stops when more pictures are unreadable than is allowed.
    fn check_bad(&self) -> Result<()> {
        let (bad, all) = (self.bad.len(), self.bad.len().max(self.total()));
        let allowed = self.request.max_bad_fraction;
        if bad == 0 || (bad as f64 <= allowed * all as f64 && bad < all) {
            return Ok(());
        }
        let named: Vec<String> =
            self.bad.iter().take(NAMED).map(|bad| format!("{}: {}", bad.picture.display(), bad.reason)).collect();
        let more = if bad > NAMED { "; .." } else { "" };
        bail!(
            "{}: {bad} of {all} pictures cannot be read, above --max-bad-fraction {allowed}: {}{more}. Restore them, remove \
             their rows, or raise --max-bad-fraction",
            self.request.input.display(),
            named.join("; ")
        );
    }

    /// Distinct pictures of the input.
    fn total(&self) -> usize {
        let paths: HashSet<&Path> = self.rows.iter().map(|row| row.picture.as_path()).collect();
        paths.len()
    }
}

/// Rows left out, and the time.
struct Left {
    repeated: usize,
    unreadable: Vec<Unreadable>,
    seconds: f64,
}

/// Writes the files.
fn finish(request: &Request, rows: &[Row], pictures: &[Picture], raters: &[Rater], left: Left) -> Result<Summary> {
    let out = &request.out;
    std::fs::create_dir_all(out).with_context(|| format!("cannot make the folder {}", out.display()))?;
    let mut written: Vec<(usize, ScoredRow)> = Vec::new();
    for picture in pictures {
        let relative = relative_to(out, &picture.path)?;
        for index in &picture.rows {
            let row = &rows[*index];
            let prompt = row.prompt.as_deref().unwrap_or_default();
            // Unreadable pictures have no numbers.
            let Some(scores) = scores_of(raters, &picture.hash, prompt) else { continue };
            let (prompt, rest) = (row.prompt.clone(), row.rest.clone());
            written.push((*index, ScoredRow { picture: relative.clone(), prompt, scores, rest }));
        }
    }
    written.sort_by_key(|(index, _)| *index);
    let written: Vec<ScoredRow> = written.into_iter().map(|(_, row)| row).collect();
    let summary = summarised(&written, raters, pictures.len(), left)?;
    output::write(&out.join("scores.jsonl"), &written)?;
    let mut json = serde_json::to_vec_pretty(&summary)?;
    json.push(b'\n');
    write_atomically(&out.join("scores.json"), &json)?;
    if request.report {
        let page = report::html(&summary, &written, out)?;
        write_atomically(&out.join("report.html"), page.as_bytes())?;
    }
    Ok(summary)
}

/// `None` where one of the scorers has no numbers.
fn scores_of(raters: &[Rater], hash: &str, prompt: &str) -> Option<Scores> {
    let of_rater = |rater: &Rater| {
        let names = rater.named.scorer.measures().iter().map(|measure| measure.name.to_string());
        let numbers = rater.known(hash, prompt)?;
        Some((rater.named.name.clone(), names.zip(numbers.iter().copied()).collect()))
    };
    raters.iter().map(of_rater).collect()
}

fn summarised(rows: &[ScoredRow], raters: &[Rater], pictures: usize, left: Left) -> Result<Summary> {
    let mut groups: BTreeMap<&str, Vec<usize>> = BTreeMap::new();
    for (index, row) in rows.iter().enumerate() {
        groups.entry(row.prompt.as_deref().unwrap_or_default()).or_default().push(index);
    }
    let prompts = rows.iter().filter_map(|row| row.prompt.as_deref()).collect::<HashSet<_>>().len();
    let (mut oriented, mut scorers) = (Vec::new(), Vec::new());
    for rater in raters {
        let mut columns = Vec::new();
        for measure in rater.named.scorer.measures() {
            let number = |row: &ScoredRow| row.scores.get(&rater.named.name)?.get(measure.name.as_ref()).copied();
            let numbers: Vec<f64> = rows.iter().filter_map(number).collect();
            oriented.extend(Oriented::of(&rater.named.name, measure, &numbers));
            columns.push(Column::of(measure, &numbers).context("no picture was rated")?);
        }
        scorers.push(ScoredBy {
            name: rater.named.name.clone(),
            path: rater.spec.path.clone(),
            columns,
            rated: rater.rated,
            pictures_per_s: (rater.rated > 0 && rater.seconds > 0.0).then(|| rater.rated as f64 / rater.seconds),
        });
    }
    let groups: Vec<Vec<usize>> = groups.into_values().collect();
    let (repeated, unreadable, seconds) = (left.repeated, left.unreadable, left.seconds);
    let agreement = agreement(&oriented, &groups);
    Ok(Summary { rows: rows.len(), pictures, prompts, repeated, unreadable, scorers, agreement, seconds })
}
