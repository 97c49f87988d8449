//! From the rows of a data set to checked and relabelled items.

use super::filters::{self, Filtered, Judged};
use super::findings::Findings;
use super::image_ref::ImageRef;
use super::item::{Item, ItemKind, Strength};
use super::ranking::{self, Labels};
use super::read_options::{ReadOptions, Ties, WrongKind};
use super::row::{Entry, Place, Row};
use super::sources::{self, Format, Opened};
use crate::machine::hashes;
use anyhow::{Result, anyhow, bail};
use sha2::{Digest, Sha256};
use std::collections::{BTreeSet, HashMap};
use std::path::{Path, PathBuf};

/// Number of items listed in an error.
const NAMED: usize = 3;

/// The rows of one data set, as items.
pub(super) struct Index {
    /// The file or folder that names the data set.
    pub path: PathBuf,
    /// SHA-256 of the file, or of the rows of a data set of several files.
    pub sha256: String,
    pub format: Format,
    pub kind: ItemKind,
    pub rows: usize,
    /// Items of the wanted kind, in the order of the rows.
    pub items: Vec<Item>,
    pub dropped_ties: Vec<String>,
    pub dropped_labels: Vec<String>,
    /// Number of rows whose images nobody compared.
    pub unlabelled: usize,
    pub filtered: Filtered,
    /// Faults of the pairs that are left, by the places of their images.
    pub findings: Findings,
    pub ignored_fields: BTreeSet<String>,
}

/// Rows with their ids and places.
struct Rows {
    kind: ItemKind,
    items: Vec<(Item, Place)>,
    unlabelled: usize,
    ignored_fields: BTreeSet<String>,
}

impl Index {
    /// Reads the data set at `path`.
    pub fn read(path: &Path, options: &ReadOptions) -> Result<Self> {
        let opened = sources::open(path, options.format)?;
        let path = opened.index()?;
        let mut digest = (!opened.is_one_file()).then(RowDigest::default);
        let Rows { kind, items, unlabelled, ignored_fields } =
            rows_of(&opened, &path, options.wanted, digest.as_mut())?;
        let sha256 = match digest {
            Some(digest) => digest.finish(),
            None => hashes::of_file(&path)?,
        };
        let mut index = Self {
            sha256,
            path,
            format: opened.format().kind().map_or(opened.format(), |_| Format::of_kind(kind)),
            kind,
            rows: items.len() + unlabelled,
            items: Vec::new(),
            dropped_ties: Vec::new(),
            dropped_labels: Vec::new(),
            unlabelled,
            filtered: Filtered::new(),
            findings: Findings::default(),
            ignored_fields,
        };
        if kind == ItemKind::Pairs {
            let pairs = index.without_ties(items, options.ties)?;
            index.refuse_missing_scores(&pairs, options)?;
            index.relabel(pairs.into_iter().map(|(item, _)| item), options)?;
        } else {
            let items: Vec<Item> = items.into_iter().map(|(item, _)| item).collect();
            let winners = vec![None; items.len()];
            index.items = index.filter(items, winners, options)?.0;
        }
        index.refuse_nothing_left(options)?;
        Ok(index)
    }

    fn without_ties(&mut self, pairs: Vec<(Item, Place)>, ties: Ties) -> Result<Vec<(Item, Place)>> {
        let tie = pairs.iter().find(|(pair, _)| pair.preference.is_tie());
        if let (Ties::Error, Some((pair, place))) = (ties, tie) {
            bail!(
                "{place}: the pair \"{}\" is a tie and data.ties is \"error\"; remove the row or set \
                 data.ties = \"drop\"",
                pair.id
            );
        }
        if ties == Ties::Keep {
            return Ok(pairs);
        }
        let (dropped, kept): (Vec<_>, Vec<_>) = pairs.into_iter().partition(|(pair, _)| pair.preference.is_tie());
        self.dropped_ties = dropped.into_iter().map(|(pair, _)| pair.id).collect();
        Ok(kept)
    }

    /// Scores read by `data.labels` or the method must exist for every pair. Kept ties are not relabelled.
    fn refuse_missing_scores(&self, pairs: &[(Item, Place)], options: &ReadOptions) -> Result<()> {
        let ranked = |pair: &Item| !pair.preference.is_tie();
        for scorer in options.labels.scorers() {
            self.refuse_missing(pairs, scorer, "data.labels", &ranked)?;
        }
        if let Some((scorer, _)) = &options.filters.gap {
            self.refuse_missing(pairs, scorer, "data.gap_scorer", &ranked)?;
        }
        match &options.scorer {
            Some(scorer) => self.refuse_missing(pairs, scorer, "[method]", &|_| true),
            None => Ok(()),
        }
    }

    fn refuse_missing(
        &self,
        pairs: &[(Item, Place)],
        scorer: &str,
        key: &str,
        needs: &dyn Fn(&Item) -> bool,
    ) -> Result<()> {
        let without: Vec<_> = pairs.iter().filter(|(p, _)| needs(p) && !p.scores.contains_key(scorer)).collect();
        if without.is_empty() {
            return Ok(());
        }
        let named: Vec<String> =
            without.iter().take(NAMED).map(|(pair, place)| format!("\"{}\" (line {})", pair.id, place.row)).collect();
        let more = if without.len() > NAMED { " .." } else { "" };
        let there: BTreeSet<&str> = pairs.iter().flat_map(|(p, _)| p.scores.keys().map(String::as_str)).collect();
        let there = match there.is_empty() {
            true => "no row has `scores`".to_string(),
            false => format!("there are scores of {}", there.into_iter().collect::<Vec<_>>().join(", ")),
        };
        bail!(
            "{}: {} of {} pairs have no score of \"{scorer}\", which {key} asks for: {}{more}; {there}. Add \
             scores = {{\"{scorer}\": [winner's, loser's]}} to every row, or name another scorer",
            self.path.display(),
            without.len(),
            pairs.len(),
            named.join(", ")
        );
    }

    /// Relabels the pairs and converts them to the wanted kind, as trained.
    fn relabel(&mut self, pairs: impl Iterator<Item = Item>, options: &ReadOptions) -> Result<()> {
        let (mut kept, mut winners) = (Vec::new(), Vec::new());
        for pair in pairs {
            let winner = match pair.preference.is_tie() {
                true => None,
                false => options.labels.winner(&pair),
            };
            if winner.is_none() && !pair.preference.is_tie() {
                self.dropped_labels.push(pair.id);
                continue;
            }
            winners.push(winner);
            kept.push(pair);
        }
        let (mut kept, winners) = self.filter(kept, winners, options)?;
        self.findings = Findings::of(&kept);
        let swapped = |winner: usize| if options.swapped { 1 - winner } else { winner };
        let winners: Vec<Option<usize>> = winners.into_iter().map(|winner| winner.map(swapped)).collect();
        if options.wanted == ItemKind::Labels {
            self.items = ranking::labelled(&kept, &winners);
            return Ok(());
        }
        for (pair, winner) in kept.iter_mut().zip(winners) {
            // A tie keeps the order of its row. Where winner and loser are exchanged, so are its images.
            if winner.unwrap_or(usize::from(options.swapped)) == 1 {
                pair.images.reverse();
                pair.scores.values_mut().for_each(|scores| scores.reverse());
                pair.labels.values_mut().for_each(|label| *label = 1.0 - *label);
                pair.share = pair.share.map(|share| 1.0 - share);
                pair.strength = pair.strength.map(Strength::exchanged);
            }
        }
        self.items = kept;
        Ok(())
    }

    /// Leaves rows out. `winners`: place of the winner of each.
    fn filter(
        &mut self,
        items: Vec<Item>,
        winners: Vec<Option<usize>>,
        options: &ReadOptions,
    ) -> Result<(Vec<Item>, Vec<Option<usize>>)> {
        let judged: Vec<Judged> =
            items.iter().zip(&winners).map(|(item, winner)| Judged { item, winner: *winner }).collect();
        let reasons = options.filters.reasons(&judged)?;
        for reason in reasons.iter().flatten() {
            *self.filtered.entry(*reason).or_default() += 1;
        }
        let kept = items.into_iter().zip(winners).zip(reasons).filter(|(_, reason)| reason.is_none());
        Ok(kept.map(|(kept, _)| kept).unzip())
    }

    fn refuse_nothing_left(&self, options: &ReadOptions) -> Result<()> {
        if !self.items.is_empty() {
            return Ok(());
        }
        let (path, ties, even) = (self.path.display(), self.dropped_ties.len(), self.dropped_labels.len());
        if !self.filtered.is_empty() {
            bail!(
                "{path}: the filters of [data] leave none of {} rows: {}",
                self.rows,
                filters::notes(&self.filtered, self.rows).join("; ")
            );
        }
        match (self.rows, even) {
            (0, _) => bail!(
                "{path}: no {}; expected rows with {}, found none",
                options.wanted.noun(),
                options.wanted.fields()
            ),
            (rows, 0) => bail!("{path}: all {rows} rows are ties, which were dropped; there is nothing to train on"),
            (rows, _) => bail!(
                "{path}: of {rows} rows {ties} are ties and {even} are even by data.labels = \"{}\"; all were dropped, \
                 there is nothing to train on",
                written(&options.labels)
            ),
        }
    }
}

/// Winner by `data.labels`.
fn written(labels: &Labels) -> String {
    match labels {
        Labels::Given => "given".into(),
        Labels::Score(scorer) => format!("score:{scorer}"),
        Labels::Vote(scorers) => format!("vote:{}", scorers.join(",")),
    }
}

fn rows_of(opened: &Opened, path: &Path, wanted: ItemKind, mut digest: Option<&mut RowDigest>) -> Result<Rows> {
    let mut rows = Rows { kind: wanted, items: Vec::new(), unlabelled: 0, ignored_fields: BTreeSet::new() };
    let mut places = HashMap::new();
    opened.read(wanted, &mut |place, entry| {
        let row = match entry.map_err(|problem| anyhow!("{place}: {problem}"))? {
            Entry::Row(row) => *row,
            Entry::Unlabelled => {
                rows.unlabelled += 1;
                return Ok(());
            }
        };
        let kind = row.kind();
        if rows.items.is_empty() {
            rows.kind = kind;
            refuse_wrong_kind(path, kind, wanted)?;
        }
        if kind != rows.kind {
            bail!(
                "{place}: this row is one of {}, the rows before it are {}; a file holds one kind: part it in two",
                kind.noun(),
                rows.kind.noun()
            );
        }
        let id = row.id.clone().unwrap_or_else(|| (rows.items.len() + rows.unlabelled).to_string());
        if let Some(first) = places.insert(id.clone(), rows.items.len()) {
            let first = &rows.items[first].1;
            let first = match first.file == place.file {
                true => format!("line {}", first.row),
                false => first.to_string(),
            };
            bail!(
                "{place}: the id \"{id}\" stands in {first} already; ids must be unique, rows without one are \
                   numbered from 0"
            );
        }
        if let Some(digest) = digest.as_deref_mut() {
            digest.add(&id, &row)?;
        }
        rows.add(id, row, place);
        Ok(())
    })?;
    Ok(rows)
}

impl Rows {
    fn add(&mut self, id: String, row: Row, place: Place) {
        self.ignored_fields.extend(row.unknown);
        let item = Item {
            id,
            prompt: row.prompt,
            images: row.images,
            preference: row.preference,
            weight: row.weight,
            scores: row.scores,
            user: row.user,
            labels: row.labels,
            share: row.share,
            strength: row.strength,
            row: self.items.len() + self.unlabelled,
        };
        self.items.push((item, place));
    }
}

/// SHA-256 over rows, whatever their folder is called.
#[derive(Default)]
struct RowDigest(Sha256);

impl RowDigest {
    fn add(&mut self, id: &str, row: &Row) -> Result<()> {
        let images: Vec<String> = row.images.iter().map(ImageRef::name).collect();
        let judged = (&row.preference, &row.scores, row.weight, &row.user, &row.labels, row.share);
        let mut line = serde_json::to_vec(&(id, &row.prompt, images, judged))?;
        line.push(b'\n');
        self.0.update(&line);
        Ok(())
    }

    fn finish(self) -> String {
        hex::encode(self.0.finalize())
    }
}

/// Pairs can be split into labelled images. No other kind can be converted.
fn refuse_wrong_kind(path: &Path, holds: ItemKind, wanted: ItemKind) -> Result<(), WrongKind> {
    match holds == wanted || (holds, wanted) == (ItemKind::Pairs, ItemKind::Labels) {
        true => Ok(()),
        false => Err(WrongKind { file: path.into(), holds, wanted }),
    }
}

/// The file or folder that names the data set at `path`.
pub(crate) fn find(path: &Path) -> Result<PathBuf> {
    sources::open(path, None)?.index()
}

/// [`find`] with the hash of the data set, that of a run on it.
///
/// # Errors
/// No data at `path`; a row that cannot be read.
pub(crate) fn identified(path: &Path) -> Result<(PathBuf, String)> {
    let opened = sources::open(path, None)?;
    let path = opened.index()?;
    if opened.is_one_file() {
        let sha256 = hashes::of_file(&path)?;
        return Ok((path, sha256));
    }
    let digest = |wanted: ItemKind| -> Result<String> {
        let mut digest = RowDigest::default();
        rows_of(&opened, &path, wanted, Some(&mut digest))?;
        Ok(digest.finish())
    };
    let sha256 = digest(ItemKind::Pairs).or_else(|error| match error.downcast_ref::<WrongKind>() {
        Some(wrong) => digest(wrong.holds),
        None => Err(error),
    })?;
    Ok((path, sha256))
}
