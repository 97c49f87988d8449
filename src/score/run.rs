//! `diffpref score` as a library call.

use super::duels::{self, Group, Judge};
use super::input::{self, Columns, Row};
use super::output::{self, ScoredRow, Scores};
use super::parquet;
use super::pictures::{self, Found, Picture};
use super::rater::{self, Asked, Rater};
use super::report;
use super::summary::{Column, Comparisons, Oriented, ScoredBy, Summary, Unreadable, agreement};
use crate::data::decode;
use crate::keys::ConfigError;
use crate::machine::files::{relative_to, write_atomically};
use crate::machine::hashes::{self, HashMemory};
use crate::progress::{Progress, Stop};
use crate::scorers::{Measure, Named, ScorerSpec};
use anyhow::{Context, Result, anyhow, bail};
use image::RgbImage;
use pipelines::weights::LoadOptions;
use std::collections::{BTreeMap, HashMap, HashSet};
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
    pub scorers: Vec<ScorerSpec>,
    /// Scorers that compare every two pictures of a prompt.
    pub judges: Vec<ScorerSpec>,
    pub device: Device,
    pub kind: Kind,
    /// Pictures decoded and rated at once.
    pub batch: usize,
    /// Largest share of pictures that may be unreadable.
    pub max_bad_fraction: f64,
    /// Whether report.html is written.
    pub report: bool,
    /// Whether scores.parquet is written too.
    pub parquet: bool,
    pub out: PathBuf,
    /// Folder of stored numbers and hashes.
    pub cache_dir: PathBuf,
}

/// Rates every picture by every scorer; writes scores.jsonl, scores.json and, if wanted, scores.parquet and report.html. Numbers are stored
/// batch by batch: a second call rates only what is missing.
///
/// # Errors
/// Unusable input or options, a scorer that fails, [`crate::progress::Stopped`] after a signal.
pub fn score(request: &Request, progress: &dyn Progress, stop: &Stop) -> Result<Summary> {
    if request.scorers.is_empty() && request.judges.is_empty() {
        let text =
            "there is no scorer: give --scorer NAME[=PATH] or --compare NAME=PATH; `diffpref scorers` lists them";
        return Err(ConfigError(text.into()).into());
    }
    let columns = Columns { picture: request.picture_column.clone(), prompt: request.prompt_column.clone() };
    let (rows, repeated) = distinct(input::read(&request.input, &columns)?);
    let mut hashes = HashMemory::open(&request.cache_dir);
    let (mut raters, mut judges) = open(request, &rows, &mut hashes)?;
    let Found { pictures, unreadable: missing } = pictures::of_rows(&rows, &mut hashes, stop)?;
    hashes.save();
    let total = pictures.len() + missing.len();
    let bad = missing.into_iter().map(|(picture, reason)| Unreadable { picture, reason }).collect();
    let mut work = Work { request, rows: &rows, pictures: &pictures, total, bad, seconds: 0.0 };
    work.check_bad()?;
    work.rate(&mut raters, progress, stop)?;
    let Work { bad, seconds, .. } = work;
    let groups = groups(&rows, &pictures, &bad);
    for judge in &mut judges {
        judge.compare(&groups, request.batch, decoded, progress, stop)?;
    }
    let left = Left { repeated, unreadable: bad, seconds };
    let done = Done { rows: &rows, pictures: &pictures, raters: &raters, judges: &judges, groups: &groups };
    finish(request, &done, left)
}

fn decoded(path: &Path) -> Result<RgbImage> {
    let image = decode::read(path).and_then(|bytes| decode::decode(&bytes));
    image.map_err(|e| anyhow!("{}: {e}", path.display()))
}

/// Readable pictures of every prompt, in order of first appearance.
fn groups<'a>(rows: &'a [Row], pictures: &'a [Picture], bad: &[Unreadable]) -> Vec<Group<'a>> {
    let bad: HashSet<&Path> = bad.iter().map(|bad| bad.picture.as_path()).collect();
    let readable = pictures.iter().filter(|picture| !bad.contains(picture.path.as_path()));
    let mut of_rows: Vec<(usize, &Picture)> =
        readable.flat_map(|picture| picture.rows.iter().map(move |row| (*row, picture))).collect();
    of_rows.sort_by_key(|(row, _)| *row);
    let mut groups: Vec<Group> = Vec::new();
    let mut places: HashMap<&str, usize> = HashMap::new();
    for (row, picture) in of_rows {
        let Some(prompt) = rows[row].prompt.as_deref() else { continue };
        let place = *places.entry(prompt).or_insert_with(|| {
            groups.push(Group { prompt, pictures: Vec::new() });
            groups.len() - 1
        });
        groups[place].pictures.push((&picture.path, &picture.hash));
    }
    groups
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

fn open(request: &Request, rows: &[Row], hashes: &mut HashMemory) -> Result<(Vec<Rater>, Vec<Judge>)> {
    let options = LoadOptions { device: request.device, kind: request.kind };
    let specs: Vec<&ScorerSpec> = request.scorers.iter().chain(&request.judges).collect();
    let mut named = Named::open_all(specs, options, None).context("--scorer")?.into_iter();
    let prompts = || rows.iter().map(|row| (row.place.as_str(), row.prompt.as_deref()));
    let mut raters = Vec::new();
    for (spec, named) in request.scorers.iter().zip(named.by_ref()) {
        let rater = Rater::new(spec.clone(), named, &request.cache_dir, hashes)?;
        if rater.reads_prompt() {
            rater::check(&rater.named, prompts())?;
        }
        raters.push(rater);
    }
    let mut judges = Vec::new();
    for (spec, named) in request.judges.iter().zip(named) {
        rater::check(&named, prompts())?;
        judges.push(Judge::new(spec.clone(), named, &request.cache_dir, hashes)?);
    }
    Ok((raters, judges))
}

/// Rating in batches.
struct Work<'a> {
    request: &'a Request,
    rows: &'a [Row],
    pictures: &'a [Picture],
    /// Distinct pictures of the input, missing ones included.
    total: usize,
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
        let (bad, all) = (self.bad.len(), self.total);
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
}

/// Rows left out, and the time.
struct Left {
    repeated: usize,
    unreadable: Vec<Unreadable>,
    seconds: f64,
}

/// Rows, pictures and their numbers.
struct Done<'a> {
    rows: &'a [Row],
    pictures: &'a [Picture],
    raters: &'a [Rater],
    judges: &'a [Judge],
    groups: &'a [Group<'a>],
}

/// Writes the files.
fn finish(request: &Request, done: &Done, left: Left) -> Result<Summary> {
    let out = &request.out;
    std::fs::create_dir_all(out).with_context(|| format!("cannot make the folder {}", out.display()))?;
    let unreadable: HashSet<&Path> = left.unreadable.iter().map(|bad| bad.picture.as_path()).collect();
    let groups: HashMap<&str, &Group> = done.groups.iter().map(|group| (group.prompt, group)).collect();
    let mut written: Vec<(usize, ScoredRow)> = Vec::new();
    for picture in done.pictures.iter().filter(|picture| !unreadable.contains(picture.path.as_path())) {
        let relative = relative_to(out, &picture.path)?;
        for index in &picture.rows {
            let row = &done.rows[*index];
            let prompt = row.prompt.as_deref().unwrap_or_default();
            let mut scores = scores_of(done.raters, &picture.hash, prompt)?;
            if let Some(group) = groups.get(prompt) {
                let share = |judge: &Judge| (duels::WIN_SHARE.to_string(), judge.win_share(group, &picture.hash));
                scores.extend(done.judges.iter().map(|judge| (judge.named.name.clone(), [share(judge)].into())));
            }
            let (prompt, rest) = (row.prompt.clone(), row.rest.clone());
            written.push((*index, ScoredRow { picture: relative.clone(), prompt, scores, rest }));
        }
    }
    written.sort_by_key(|(index, _)| *index);
    let written: Vec<ScoredRow> = written.into_iter().map(|(_, row)| row).collect();
    let summary = summarised(&written, done, left)?;
    output::write(&out.join("scores.jsonl"), &written)?;
    if request.parquet {
        parquet::write(&out.join("scores.parquet"), &written)?;
    }
    let mut json = serde_json::to_vec_pretty(&summary)?;
    json.push(b'\n');
    write_atomically(&out.join("scores.json"), &json)?;
    if request.report {
        let page = report::html(&summary, &written, out)?;
        write_atomically(&out.join("report.html"), page.as_bytes())?;
    }
    Ok(summary)
}

fn scores_of(raters: &[Rater], hash: &str, prompt: &str) -> Result<Scores> {
    let of_rater = |rater: &Rater| {
        let names = rater.named.scorer.measures().iter().map(|measure| measure.name.to_string());
        let numbers = rater.known(hash, prompt).context("a picture was not rated")?;
        Ok((rater.named.name.clone(), names.zip(numbers.iter().copied()).collect()))
    };
    raters.iter().map(of_rater).collect()
}

fn summarised(rows: &[ScoredRow], done: &Done, left: Left) -> Result<Summary> {
    let mut places: BTreeMap<&str, Vec<usize>> = BTreeMap::new();
    for (index, row) in rows.iter().enumerate() {
        places.entry(row.prompt.as_deref().unwrap_or_default()).or_default().push(index);
    }
    let (mut oriented, mut scorers) = (Vec::new(), Vec::new());
    for rater in done.raters {
        let columns = columns(rows, &rater.named.name, rater.named.scorer.measures(), &mut oriented)?;
        let pictures_per_s = (rater.rated > 0 && rater.seconds > 0.0).then(|| rater.rated as f64 / rater.seconds);
        let (name, path) = (rater.named.name.clone(), rater.spec.path.clone());
        let weights_sha256 = weights_sha256(&rater.spec)?;
        let comparisons = None;
        scorers.push(ScoredBy { name, path, weights_sha256, columns, rated: rater.rated, pictures_per_s, comparisons });
    }
    for judge in done.judges {
        let columns = columns(rows, &judge.named.name, &[duels::measure()], &mut oriented)?;
        let comparisons = Some(Comparisons {
            made: judge.compared,
            per_s: (judge.compared > 0 && judge.seconds > 0.0).then(|| judge.compared as f64 / judge.seconds),
            order_inconsistency: judge.order_inconsistency(done.groups),
        });
        let (name, path) = (judge.named.name.clone(), judge.spec.path.clone());
        let weights_sha256 = weights_sha256(&judge.spec)?;
        scorers.push(ScoredBy { name, path, weights_sha256, columns, rated: 0, pictures_per_s: None, comparisons });
    }
    let places: Vec<Vec<usize>> = places.into_values().collect();
    Ok(Summary {
        rows: rows.len(),
        pictures: done.pictures.len(),
        prompts: rows.iter().filter_map(|row| row.prompt.as_deref()).collect::<HashSet<_>>().len(),
        repeated: left.repeated,
        unreadable: left.unreadable,
        agreement: agreement(&oriented, &places),
        scorers,
        seconds: left.seconds,
    })
}

fn weights_sha256(spec: &ScorerSpec) -> Result<Option<String>> {
    spec.weights()?.map(|file| hashes::of_file(&file)).transpose()
}

/// Figures of a scorer's measures; those that prefer are added to `oriented`.
fn columns(
    rows: &[ScoredRow],
    scorer: &str,
    measures: &[Measure],
    oriented: &mut Vec<Oriented>,
) -> Result<Vec<Column>> {
    let column = |measure: &Measure| {
        let number = |row: &ScoredRow| row.scores.get(scorer)?.get(measure.name.as_ref()).copied();
        let numbers: Vec<f64> = rows.iter().filter_map(number).collect();
        oriented.extend(Oriented::of(scorer, measure, &numbers));
        Column::of(measure, &numbers).context("no picture was rated")
    };
    measures.iter().map(column).collect()
}
