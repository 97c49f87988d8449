//! One pass over the rows of a data set: counts, and what is needed to look at its images later.

use super::summary::{Generator, Scores};
use crate::data::draws::key;
use crate::data::findings::{Findings, marks};
use crate::data::items::{Format, ImageRef, ItemKind, Preference};
use crate::data::row::{Entry, Row};
use crate::data::sources::{self, Opened};
use crate::progress::Stop;
use crate::report::histogram;
use anyhow::{Result, anyhow};
use std::collections::{BTreeMap, BinaryHeap, HashMap};
use std::hash::Hash;
use std::path::Path;

/// Values with a number each, in the order of their first appearance.
pub struct Numbered<T>(HashMap<T, u32>);

impl<T: Hash + Eq> Numbered<T> {
    pub fn of(&mut self, value: T) -> u32 {
        let next = self.0.len() as u32;
        *self.0.entry(value).or_insert(next)
    }

    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Values in the order of their numbers.
    pub fn into_values(self) -> Vec<T> {
        let mut all: Vec<(T, u32)> = self.0.into_iter().collect();
        all.sort_by_key(|(_, number)| *number);
        all.into_iter().map(|(value, _)| value).collect()
    }
}

/// A pair as numbers.
pub type Pair = (u32, u32, u32, bool);

/// A row that is shown.
#[derive(Debug, PartialEq)]
pub struct Sampled {
    key: u64,
    pub row: Row,
}

impl Eq for Sampled {}

impl PartialOrd for Sampled {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Sampled {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        self.key.cmp(&other.key)
    }
}

/// Findings of one pass over the rows.
pub struct Gathered {
    pub format: Format,
    pub kind: ItemKind,
    pub rows: usize,
    pub unlabelled: usize,
    pub ties: usize,
    pub desirable: usize,
    pub most_per_prompt: usize,
    pub prompts: Vec<String>,
    pub images: Vec<ImageRef>,
    /// Prompt, winner, loser, tie.
    pub pairs: Vec<Pair>,
    pub users: BTreeMap<String, usize>,
    pub generators: Vec<Generator>,
    pub scores: Vec<Scores>,
    /// By the places of images.
    pub findings: Findings,
    /// Random rows, the same for one seed.
    pub sample: Vec<Row>,
}

/// Reads all rows. `shown`: number of random rows to keep.
///
/// # Errors
/// Files of no known format, the first row that is refused; `Stopped`.
pub fn gather(path: &Path, format: Option<Format>, shown: usize, seed: u64, stop: &Stop) -> Result<Gathered> {
    let opened = sources::open(path, format)?;
    let mut pass = Pass::new(shown, seed);
    opened.read(ItemKind::Lists, &mut |place, entry| {
        stop.check()?;
        match entry.map_err(|problem| anyhow!("{place}: {problem}"))? {
            Entry::Row(row) => pass.add(*row),
            Entry::Unlabelled => pass.unlabelled += 1,
        }
        Ok(())
    })?;
    Ok(pass.finish(&opened))
}

struct Pass {
    shown: usize,
    seed: u64,
    rows: usize,
    unlabelled: usize,
    ties: usize,
    desirable: usize,
    kind: Option<ItemKind>,
    prompts: Numbered<String>,
    per_prompt: Vec<usize>,
    images: Numbered<ImageRef>,
    pairs: Vec<Pair>,
    users: BTreeMap<String, usize>,
    generators: BTreeMap<String, Generator>,
    scores: BTreeMap<String, Vec<f64>>,
    findings: Findings,
    sample: BinaryHeap<Sampled>,
}

impl Pass {
    fn new(shown: usize, seed: u64) -> Self {
        Self {
            shown,
            seed,
            rows: 0,
            unlabelled: 0,
            ties: 0,
            desirable: 0,
            kind: None,
            prompts: Numbered(HashMap::new()),
            per_prompt: Vec::new(),
            images: Numbered(HashMap::new()),
            pairs: Vec::new(),
            users: BTreeMap::new(),
            generators: BTreeMap::new(),
            scores: BTreeMap::new(),
            findings: Findings::default(),
            sample: BinaryHeap::new(),
        }
    }

    fn add(&mut self, row: Row) {
        self.kind.get_or_insert(row.kind());
        let prompt = self.prompts.of(row.prompt.clone());
        self.per_prompt.resize(self.prompts.len(), 0);
        self.per_prompt[prompt as usize] += 1;
        let images: Vec<u32> = row.images.iter().map(|image| self.images.of(image.clone())).collect();
        let tie = row.preference.is_tie();
        self.ties += usize::from(tie);
        self.desirable += usize::from(row.preference == Preference::Label { desirable: true });
        if let (Preference::Pair { .. }, [winner, loser]) = (&row.preference, images.as_slice()) {
            self.pairs.push((prompt, *winner, *loser, tie));
            if !tie {
                self.findings.add_scores(&row.scores);
            }
        }
        if let Some(user) = &row.user {
            *self.users.entry(user.clone()).or_default() += 1;
        }
        self.add_generators(&row, tie);
        for (scorer, numbers) in &row.scores {
            self.scores.entry(scorer.clone()).or_default().extend(numbers);
        }
        self.rows += 1;
        if self.shown == 0 {
            return;
        }
        let key = key(self.seed, "sheet", &[&(self.rows - 1)]);
        if self.sample.len() < self.shown || self.sample.peek().is_some_and(|last| key < last.key) {
            self.sample.push(Sampled { key, row });
            if self.sample.len() > self.shown {
                self.sample.pop();
            }
        }
    }

    fn add_generators(&mut self, row: &Row, tie: bool) {
        for (place, name) in row.generators.iter().enumerate() {
            let generator = self.generators.entry(name.clone()).or_insert_with(|| Generator::named(name));
            generator.images += 1;
            if row.kind() == ItemKind::Pairs {
                generator.ties += usize::from(tie);
                generator.wins += usize::from(!tie && place == 0);
                generator.losses += usize::from(!tie && place == 1);
            }
        }
    }

    fn finish(mut self, opened: &Opened) -> Gathered {
        let kind = self.kind.unwrap_or(ItemKind::Pairs);
        self.findings.add(&marks(&self.pairs));
        let mut generators: Vec<Generator> = self.generators.into_values().collect();
        generators.sort_by(|a, b| b.images.cmp(&a.images).then_with(|| a.name.cmp(&b.name)));
        Gathered {
            format: opened.format().kind().map_or(opened.format(), |_| Format::of_kind(kind)),
            kind,
            rows: self.rows + self.unlabelled,
            unlabelled: self.unlabelled,
            ties: self.ties,
            desirable: self.desirable,
            most_per_prompt: self.per_prompt.iter().copied().max().unwrap_or(0),
            prompts: self.prompts.into_values(),
            images: self.images.into_values(),
            pairs: self.pairs,
            users: self.users,
            generators,
            scores: self.scores.into_iter().map(scores).collect(),
            findings: self.findings,
            sample: self.sample.into_sorted_vec().into_iter().map(|sampled| sampled.row).collect(),
        }
    }
}

fn scores((scorer, numbers): (String, Vec<f64>)) -> Scores {
    let min = numbers.iter().copied().fold(f64::INFINITY, f64::min);
    let max = numbers.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    let mean = crate::numbers::mean(numbers.iter().copied()).unwrap_or_default();
    Scores { scorer, images: numbers.len(), min, max, mean, histogram: histogram(&numbers, min, max) }
}
