//! Judged pictures of a training: items of the data file as numbers into lists of pictures and prompts.

use super::settings::Settings;
use crate::data::filters::Filters;
use crate::data::items::{
    Holdout, ImageRef, Item, ItemKind, ItemSet, Labels, Preference, ReadOptions, Strength, WrongKind,
};
use crate::heads::{DisagreementMargin, MarginSource, Method, Objective};
use crate::keys::ConfigError;
use anyhow::{Result, bail, ensure};
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::path::{Path, PathBuf};

/// Number of items listed in an error.
const NAMED: usize = 3;

/// A pair or list.
#[derive(Debug, Clone)]
pub struct Judged {
    pub id: String,
    pub prompt: usize,
    /// Numbers of the pictures, the winner of a pair first.
    pub pictures: Vec<usize>,
    /// Share of the first picture of a pair: 1, or 0.5 of a tie.
    pub share: f64,
    /// Share of the votes for the first picture, if the row has votes.
    pub votes: Option<f64>,
    pub strength: Option<Strength>,
    /// Number of its data set: 0 is data.path, then data.others.
    pub set: usize,
    /// Share of the first picture in each dimension of the corpus, -1 without a label.
    pub dimensions: Vec<f64>,
    /// Place of each picture of a list, the lowest the best.
    pub places: Vec<f64>,
    /// Number of the user.
    pub user: Option<usize>,
    /// Pairs of its prompt in its part of the data.
    pub of_prompt: f64,
}

/// The data of a training.
pub struct Corpus {
    pub index: PathBuf,
    /// Hash of the file of each data set.
    pub sha256: Vec<String>,
    pub pictures: Vec<ImageRef>,
    pub prompts: Vec<String>,
    pub train: Vec<Judged>,
    pub validation: Vec<Judged>,
    /// Training items that a member of an ensemble does not see.
    pub left_out: Vec<Judged>,
    /// Names in alphabetical order, for heads that read them.
    pub users: Vec<String>,
    pub dimensions: Vec<String>,
    /// Wins and losses of each picture in the training set.
    pub records: Vec<[u32; 2]>,
    pub dropped_ties: usize,
}

impl Corpus {
    /// Reads and checks the rows, and that every picture is there. `kind`: of the items that the head reads. `users`: those
    /// that the head has already, which come first.
    ///
    /// # Errors
    /// Those of the reader of items; rows without what the head reads; missing pictures.
    pub fn read(settings: &Settings, kind: ItemKind, users: &[String]) -> Result<Self> {
        let paths = std::iter::once(&settings.data.path).chain(&settings.data.others);
        let sets = paths.map(|path| Self::set(settings, path, kind)).collect::<Result<Vec<ItemSet>>>()?;
        let all: Vec<&Item> = sets.iter().flat_map(|set| set.train.iter().chain(&set.validation)).collect();
        let mut corpus = Self {
            index: sets.first().map(|set| set.index.clone()).unwrap_or_default(),
            sha256: sets.iter().map(|set| set.index_sha256.clone()).collect(),
            pictures: Vec::new(),
            prompts: Vec::new(),
            train: Vec::new(),
            validation: Vec::new(),
            left_out: Vec::new(),
            users: named_users(&all, users),
            dimensions: all
                .iter()
                .flat_map(|item| item.labels.keys().cloned())
                .collect::<BTreeSet<_>>()
                .into_iter()
                .collect(),
            records: Vec::new(),
            dropped_ties: sets.iter().map(|set| set.dropped_ties.len()).sum(),
        };
        corpus.number(&sets);
        corpus.refuse_missing()?;
        Ok(corpus)
    }

    /// Reads one file.
    fn set(settings: &Settings, path: &Path, kind: ItemKind) -> Result<ItemSet> {
        let objective = settings.method.objective();
        let set = ItemSet::read(&ReadOptions {
            path: path.to_path_buf(),
            format: None,
            wanted: kind,
            ties: settings.data.ties,
            labels: settings.data.labels.clone(),
            swapped: false,
            scorer: None,
            holdout: Holdout::Fraction(settings.validate.fraction),
            filters: Filters::default(),
        });
        let set = set.map_err(|error| match error.downcast_ref::<WrongKind>() {
            Some(wrong) => ConfigError(format!(
                "method.name = \"{objective}\" trains on {}, and {} holds {}. Give other data, or take another method.",
                wrong.wanted.noun(),
                wrong.file.display(),
                wrong.holds.noun()
            ))
            .into(),
            None => error,
        })?;
        let all: Vec<&Item> = set.train.iter().chain(&set.validation).collect();
        if objective.reads_users() {
            refuse_without(&set.index, &all, objective, "user", &|item| item.user.is_some())?;
        }
        if objective == Objective::Dimensions {
            refuse_without(&set.index, &all, objective, "labels", &|item| !item.labels.is_empty())?;
        }
        if let Method::DisagreementMargin(DisagreementMargin { source, .. }) = settings.method {
            let has = |item: &Item| match source {
                MarginSource::Strength => item.strength.is_some(),
                MarginSource::Votes => item.share.is_some(),
            };
            refuse_without(&set.index, &all, objective, source.name(), &has)?;
        }
        if settings.data.labels == Labels::Given {
            refuse_contradictory(&set.index, &all)?;
        }
        Ok(set)
    }

    fn number(&mut self, sets: &[ItemSet]) {
        let (mut pictures, mut prompts) = (Numbers::default(), Numbers::default());
        let users: BTreeMap<&str, usize> = self.users.iter().enumerate().map(|(i, user)| (user.as_str(), i)).collect();
        let mut part = |items: &[Item], set: usize| -> Vec<Judged> {
            let mut counts: HashMap<&str, f64> = HashMap::new();
            items.iter().for_each(|item| *counts.entry(&item.prompt).or_default() += 1.0);
            let judged = |item: &Item| Judged {
                id: item.id.clone(),
                prompt: prompts.of(&item.prompt),
                pictures: item.images.iter().map(|path| pictures.of(path)).collect(),
                share: if item.preference.is_tie() { 0.5 } else { 1.0 },
                votes: item.share,
                strength: item.strength,
                set,
                dimensions: self.dimensions.iter().map(|name| item.labels.get(name).copied().unwrap_or(-1.0)).collect(),
                places: places(&item.preference),
                user: item.user.as_deref().and_then(|user| users.get(user)).copied(),
                of_prompt: counts.get(item.prompt.as_str()).copied().unwrap_or(1.0),
            };
            items.iter().map(judged).collect()
        };
        let (mut train, mut validation) = (Vec::new(), Vec::new());
        for (number, set) in sets.iter().enumerate() {
            train.extend(part(&set.train, number));
            validation.extend(part(&set.validation, number));
        }
        (self.pictures, self.prompts) = (pictures.all, prompts.all);
        (self.train, self.validation) = (train, validation);
        self.count_records();
    }

    /// Counts wins and losses over the training pairs.
    pub fn count_records(&mut self) {
        self.records = vec![[0, 0]; self.pictures.len()];
        for pair in self.train.iter().filter(|pair| pair.pictures.len() == 2 && pair.share > 0.5) {
            self.records[pair.pictures[0]][0] += 1;
            self.records[pair.pictures[1]][1] += 1;
        }
    }

    fn refuse_missing(&self) -> Result<()> {
        let missing: Vec<&ImageRef> = self.pictures.iter().filter(|image| !image.exists()).collect();
        let Some(first) = missing.first() else { return Ok(()) };
        bail!(
            "{}: {} of {} pictures are missing, the first is {}; restore them, or remove their rows",
            self.index.display(),
            missing.len(),
            self.pictures.len(),
            first
        );
    }

    /// Distinct prompts of a part of the data.
    pub fn prompts_of(&self, part: &[Judged]) -> usize {
        part.iter().map(|item| item.prompt).collect::<BTreeSet<_>>().len()
    }
}

/// Places of a list from win fractions.
fn places(preference: &Preference) -> Vec<f64> {
    match preference {
        Preference::List { phi } => phi.iter().map(|share| -share).collect(),
        Preference::Pair { .. } | Preference::Label { .. } => Vec::new(),
    }
}

/// Users of the head, then new ones of the rows in alphabetical order.
fn named_users(items: &[&Item], known: &[String]) -> Vec<String> {
    let found: BTreeSet<&String> = items.iter().filter_map(|item| item.user.as_ref()).collect();
    let new = found.into_iter().filter(|user| !known.contains(user)).cloned();
    known.iter().cloned().chain(new).collect()
}

fn refuse_without(
    index: &Path,
    items: &[&Item],
    objective: Objective,
    field: &str,
    has: &dyn Fn(&Item) -> bool,
) -> Result<()> {
    let without: Vec<String> = items.iter().filter(|item| !has(item)).map(|item| format!("\"{}\"", item.id)).collect();
    ensure!(
        without.is_empty(),
        "{}: {} of {} rows have no `{field}`, which method.name = \"{objective}\" reads: {}{}. Add `{field}` to every row, or \
         take another method",
        index.display(),
        without.len(),
        items.len(),
        without[..without.len().min(NAMED)].join(", "),
        if without.len() > NAMED { " .." } else { "" }
    );
    Ok(())
}

/// Votes against the winner of their own row.
fn refuse_contradictory(index: &Path, items: &[&Item]) -> Result<()> {
    let against = items.iter().find(|item| item.share.is_some_and(|share| share < 0.5));
    match against {
        None => Ok(()),
        Some(item) => bail!(
            "{}: most votes of \"{}\" are against its winner: exchange winner and loser, or correct `votes` = [for the \
             winner, for the loser]",
            index.display(),
            item.id
        ),
    }
}

/// Values in the order of their first appearance.
struct Numbers<T> {
    all: Vec<T>,
    places: HashMap<T, usize>,
}

impl<T> Default for Numbers<T> {
    fn default() -> Self {
        Self { all: Vec::new(), places: HashMap::new() }
    }
}

impl<T: Clone + Eq + std::hash::Hash> Numbers<T> {
    fn of(&mut self, value: &T) -> usize {
        if let Some(place) = self.places.get(value) {
            return *place;
        }
        self.all.push(value.clone());
        self.places.insert(value.clone(), self.all.len() - 1);
        self.all.len() - 1
    }
}
