//! A scorer behind a transport: handshake, batches, retries, and the checks of every answer.

use super::messages::{Answer, Compared, Description, PROTOCOL, Picture, PictureForm, Rated, Request, Verb};
use super::transport::{Failure, Transport};
use crate::scorers::measure::{Measure, Range, Table};
use crate::scorers::scorer::Scorer;
use anyhow::{Context, Result, anyhow, bail, ensure};
use base64::prelude::{BASE64_STANDARD, Engine as _};
use image::{ImageFormat, RgbImage};
use serde::de::DeserializeOwned;
use std::cell::{Cell, RefCell};
use std::io::Cursor;
use std::time::Duration;
use tempfile::TempDir;

/// Wait before the second try; doubled before each further one.
const FIRST_WAIT: Duration = Duration::from_millis(250);
const LONGEST_WAIT: Duration = Duration::from_secs(30);
/// Characters of an answer that a message quotes.
const QUOTED: usize = 200;

pub struct External {
    transport: RefCell<Box<dyn Transport>>,
    retries: u32,
    description: Description,
    measures: Vec<Measure>,
    /// Folder of pictures that are passed as files.
    files: Option<TempDir>,
    requests: Cell<u64>,
}

impl External {
    /// Opens the other side, which describes itself.
    ///
    /// # Errors
    /// A program or endpoint that does not answer as docs/scorer-protocol.md states.
    pub fn open(transport: Box<dyn Transport>, retries: u32) -> Result<Self> {
        let transport = RefCell::new(transport);
        let description: Description = ask(&transport, retries, &Request::Describe { protocol: PROTOCOL })?;
        if let Some(problem) = description.problem() {
            bail!("{} {problem} (docs/scorer-protocol.md)", transport.borrow().place());
        }
        let files = match description.pictures {
            PictureForm::Png => None,
            PictureForm::File => {
                let dir = tempfile::Builder::new().prefix("diffpref-pictures-").tempdir();
                Some(dir.context("cannot make a temporary folder for pictures; set TMPDIR to a folder with space")?)
            }
        };
        let measures = description.measures.iter().map(|measure| measure.measure()).collect();
        Ok(Self { transport, retries, measures, files, requests: Cell::new(0), description })
    }

    fn place(&self) -> String {
        self.transport.borrow().place()
    }

    fn require(&self, verb: Verb) -> Result<()> {
        let verbs = &self.description.verbs;
        ensure!(verbs.contains(&verb), "{} offers {verbs:?}, and {verb:?} is needed", self.place());
        Ok(())
    }

    fn next_id(&self) -> u64 {
        self.requests.set(self.requests.get() + 1);
        self.requests.get()
    }

    fn answer(&self, id: u64, request: &Request) -> Result<Answer> {
        let answer: Answer = ask(&self.transport, self.retries, request)?;
        if let Some(error) = answer.error {
            bail!("{} reports: {error}", self.place());
        }
        let found = answer.id.map_or("no id".to_string(), |id| format!("id {id}"));
        ensure!(answer.id == Some(id), "{} answered with {found}, expected id {id}, the request's", self.place());
        Ok(answer)
    }

    fn picture(&self, picture: &RgbImage, name: &str) -> Result<Picture> {
        let mut png = Cursor::new(Vec::new());
        picture.write_to(&mut png, ImageFormat::Png).context("cannot encode a picture as PNG")?;
        let Some(dir) = &self.files else { return Ok(Picture::Png(BASE64_STANDARD.encode(png.get_ref()))) };
        let path = dir.path().join(format!("{name}.png"));
        std::fs::write(&path, png.get_ref()).with_context(|| format!("cannot write {}", path.display()))?;
        Ok(Picture::File(path))
    }

    /// Numbers of at most `batch` pictures.
    fn rate(&self, pictures: &[RgbImage], timestep: i64, prompts: &[&str]) -> Result<Vec<Vec<f64>>> {
        let mut items = Vec::new();
        for (i, (picture, prompt)) in pictures.iter().zip(prompts).enumerate() {
            items.push(Rated { prompt, picture: self.picture(picture, &i.to_string())? });
        }
        let id = self.next_id();
        let answer = self.answer(id, &Request::Score { id, timestep, items })?;
        let (place, n) = (self.place(), pictures.len());
        let rows = answer.scores.with_context(|| format!("{place} answered \"score\" without `scores`"))?;
        ensure!(rows.len() == n, "{place} returned {} rows of scores, expected {n}, one per picture", rows.len());
        rows.iter().zip(prompts).enumerate().map(|(i, (row, prompt))| self.checked(i, row, prompt)).collect()
    }

    fn checked(&self, i: usize, row: &[Option<f64>], prompt: &str) -> Result<Vec<f64>> {
        let (place, n) = (self.place(), self.measures.len());
        ensure!(row.len() == n, "{place} returned {} numbers for picture {i}, expected {n}", row.len());
        let number = |(number, measure): (&Option<f64>, &Measure)| {
            let of = || format!("{place}: {} of picture {i}, prompt {prompt:?},", measure.name);
            let number = number.with_context(|| format!("{} is null: expected a finite number", of()))?;
            let Range::Real { min, max } = measure.range else { return Ok(number) };
            let inside = min.is_none_or(|min| number >= min) && max.is_none_or(|max| number <= max);
            ensure!(inside, "{} is {number}: outside the range that it describes", of());
            Ok(number)
        };
        row.iter().zip(&self.measures).map(number).collect()
    }

    /// Answers for at most `batch` pairs.
    fn judge(&self, first: &[RgbImage], second: &[RgbImage], prompts: &[&str]) -> Result<Vec<f64>> {
        let mut items = Vec::new();
        for (i, ((first, second), prompt)) in first.iter().zip(second).zip(prompts).enumerate() {
            let (first, second) =
                (self.picture(first, &format!("{i}-first"))?, self.picture(second, &format!("{i}-second"))?);
            items.push(Compared { prompt, first, second });
        }
        let id = self.next_id();
        let answer = self.answer(id, &Request::Compare { id, items })?;
        let (place, n) = (self.place(), first.len());
        let given =
            answer.probabilities.with_context(|| format!("{place} answered \"compare\" without `probabilities`"))?;
        ensure!(given.len() == n, "{place} returned {} probabilities for {n} pairs", given.len());
        let checked = |(p, prompt): (&Option<f64>, &&str)| {
            let inside = p.filter(|p| (0.0..=1.0).contains(p));
            let found = p.map_or("null".to_string(), |p| p.to_string());
            inside.with_context(|| format!("{place}: {found} for the prompt {prompt:?}: expected a number in 0..1"))
        };
        given.iter().zip(prompts).map(checked).collect()
    }
}

impl Scorer for External {
    fn measures(&self) -> &[Measure] {
        &self.measures
    }

    fn identity(&self) -> String {
        format!("{} {} {}", self.place(), self.description.name, self.description.version)
    }

    fn score(&self, pictures: &[RgbImage], t: i64, prompts: &[&str]) -> Result<Table> {
        self.require(Verb::Score)?;
        let batch = self.description.batch;
        let mut rows = Vec::new();
        for (pictures, prompts) in pictures.chunks(batch).zip(prompts.chunks(batch)) {
            rows.extend(self.rate(pictures, t, prompts)?);
        }
        Ok(Table(rows))
    }

    fn compare(&self, first: &[RgbImage], second: &[RgbImage], prompts: &[&str]) -> Result<Vec<f64>> {
        self.require(Verb::Compare)?;
        let batch = self.description.batch;
        let mut answers = Vec::new();
        for ((first, second), prompts) in first.chunks(batch).zip(second.chunks(batch)).zip(prompts.chunks(batch)) {
            answers.extend(self.judge(first, second, prompts)?);
        }
        Ok(answers)
    }
}

/// Sends a request, again after a failure that may pass, and reads the answer.
fn ask<T: DeserializeOwned>(transport: &RefCell<Box<dyn Transport>>, retries: u32, request: &Request) -> Result<T> {
    let text = serde_json::to_string(request)?;
    let mut transport = transport.borrow_mut();
    let place = transport.place();
    let mut wait = FIRST_WAIT;
    let mut tries = 1;
    let answer = loop {
        match transport.exchange(&text) {
            Ok(answer) => break answer,
            Err(Failure::Lasting(why)) => bail!("{place} {why}"),
            Err(Failure::Passing(why)) if tries > retries => {
                let tried = if tries == 1 { String::new() } else { format!(", {tries} times") };
                bail!("{place}{tried} {why}");
            }
            Err(Failure::Passing(_)) => {
                std::thread::sleep(wait);
                wait = (wait * 2).min(LONGEST_WAIT);
                tries += 1;
            }
        }
    };
    serde_json::from_str(&answer).map_err(|e| unreadable(&place, &answer, &e))
}

fn unreadable(place: &str, answer: &str, error: &serde_json::Error) -> anyhow::Error {
    let shown: String = answer.chars().take(QUOTED).collect();
    let more = if answer.chars().nth(QUOTED).is_some() { ".." } else { "" };
    let no_number = ["NaN", "Infinity"].into_iter().find(|word| error.is_syntax() && answer.contains(word));
    match no_number {
        Some(word) => anyhow!("{place} answered {word} in {shown:?}{more}: expected finite numbers"),
        None => anyhow!(
            "{place} answered {shown:?}{more}, which is no answer of the protocol: {error}. It writes one JSON object \
             per request to standard output, and everything else to standard error (docs/scorer-protocol.md)"
        ),
    }
}
