//! Reads one index file (pairs.jsonl, lists.jsonl, labels.jsonl): from lines to checked and relabelled items.

use super::item::{Item, ItemKind, Strength};
use super::ranking::{self, Labels};
use super::read_options::{ReadOptions, Ties, WrongKind};
use super::rows::{self, Row};
use crate::machine::hashes;
use anyhow::{Context, Result, bail};
use std::collections::{BTreeSet, HashMap};
use std::path::{Path, PathBuf};

/// Number of items listed in an error.
const NAMED: usize = 3;

/// The content of one index file.
pub(super) struct Index {
    pub path: PathBuf,
    pub sha256: String,
    pub kind: ItemKind,
    pub rows: usize,
    /// Items of the wanted kind, in the order of the file.
    pub items: Vec<Item>,
    pub dropped_ties: Vec<String>,
    pub dropped_labels: Vec<String>,
    pub ignored_fields: BTreeSet<String>,
}

/// Rows as the file has them.
struct Rows {
    kind: ItemKind,
    /// Items with their line numbers.
    items: Vec<(Item, usize)>,
    ignored_fields: BTreeSet<String>,
}

impl Index {
    /// Reads `path`, or the one data file in the folder `path`.
    pub fn read(path: &Path, options: &ReadOptions) -> Result<Self> {
        let path = find(path, options.wanted)?;
        let bytes = std::fs::read(&path).with_context(|| format!("cannot read {}", path.display()))?;
        let Rows { kind, items, ignored_fields } = rows_of(&path, &bytes, options.wanted)?;
        let mut index = Self {
            sha256: hashes::of_bytes(&bytes),
            path,
            kind,
            rows: items.len(),
            items: Vec::new(),
            dropped_ties: Vec::new(),
            dropped_labels: Vec::new(),
            ignored_fields,
        };
        if kind == ItemKind::Pairs {
            let pairs = index.without_ties(items, options.ties)?;
            index.refuse_missing_scores(&pairs, options)?;
            index.relabel(pairs.into_iter().map(|(item, _)| item), options);
        } else {
            index.items = items.into_iter().map(|(item, _)| item).collect();
        }
        index.refuse_nothing_left(options)?;
        Ok(index)
    }

    fn without_ties(&mut self, pairs: Vec<(Item, usize)>, ties: Ties) -> Result<Vec<(Item, usize)>> {
        let tie = pairs.iter().find(|(pair, _)| pair.preference.is_tie());
        if let (Ties::Error, Some((pair, line))) = (ties, tie) {
            bail!(
                "{}:{line}: the pair \"{}\" is a tie and data.ties is \"error\"; remove the row or set \
                 data.ties = \"drop\"",
                self.path.display(),
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
    fn refuse_missing_scores(&self, pairs: &[(Item, usize)], options: &ReadOptions) -> Result<()> {
        let ranked = |pair: &Item| !pair.preference.is_tie();
        for scorer in options.labels.scorers() {
            self.refuse_missing(pairs, scorer, "data.labels", &ranked)?;
        }
        match &options.scorer {
            Some(scorer) => self.refuse_missing(pairs, scorer, "[method]", &|_| true),
            None => Ok(()),
        }
    }

    fn refuse_missing(
        &self,
        pairs: &[(Item, usize)],
        scorer: &str,
        key: &str,
        needs: &dyn Fn(&Item) -> bool,
    ) -> Result<()> {
        let without: Vec<_> = pairs.iter().filter(|(p, _)| needs(p) && !p.scores.contains_key(scorer)).collect();
        if without.is_empty() {
            return Ok(());
        }
        let named: Vec<String> =
            without.iter().take(NAMED).map(|(pair, line)| format!("\"{}\" (line {line})", pair.id)).collect();
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
    fn relabel(&mut self, pairs: impl Iterator<Item = Item>, options: &ReadOptions) {
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
            winners.push(winner.map(|place| if options.swapped { 1 - place } else { place }));
            kept.push(pair);
        }
        if options.wanted == ItemKind::Labels {
            self.items = ranking::labelled(&kept, &winners);
            return;
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
    }

    fn refuse_nothing_left(&self, options: &ReadOptions) -> Result<()> {
        if !self.items.is_empty() {
            return Ok(());
        }
        let (path, ties, even) = (self.path.display(), self.dropped_ties.len(), self.dropped_labels.len());
        match (self.rows, even) {
            (0, _) => bail!(
                "{path}: no {}; expected one JSON object a line with {}, found an empty file",
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

fn rows_of(path: &Path, bytes: &[u8], wanted: ItemKind) -> Result<Rows> {
    let mut rows = Rows { kind: wanted, items: Vec::new(), ignored_fields: BTreeSet::new() };
    // Some editors begin UTF-8 files with a byte order mark, which JSON does not allow.
    let bytes = bytes.strip_prefix(b"\xef\xbb\xbf").unwrap_or(bytes);
    let mut lines_by_id = HashMap::new();
    for (i, line) in bytes.split(|b| *b == b'\n').enumerate() {
        let here = || format!("{}:{}", path.display(), i + 1);
        let Ok(line) = std::str::from_utf8(line) else {
            bail!("{}: not valid UTF-8; save the file as UTF-8", here());
        };
        if line.trim().is_empty() {
            continue;
        }
        let row = rows::parse(line).map_err(|e| anyhow::anyhow!("{}: {e}", here()))?;
        let kind = row.preference.kind();
        if rows.items.is_empty() {
            rows.kind = kind;
            refuse_wrong_kind(path, kind, wanted)?;
        }
        if kind != rows.kind {
            bail!(
                "{}: this row is one of {}, the rows before it are {}; a file holds one kind: part it in two",
                here(),
                kind.noun(),
                rows.kind.noun()
            );
        }
        let id = row.id.clone().unwrap_or_else(|| rows.items.len().to_string());
        if let Some(first) = lines_by_id.insert(id.clone(), i + 1) {
            bail!(
                "{}: the id \"{id}\" stands in line {first} already; ids must be unique, rows without one are \
                   numbered from 0",
                here()
            );
        }
        rows.add(path, id, row, i + 1);
    }
    Ok(rows)
}

impl Rows {
    fn add(&mut self, path: &Path, id: String, row: Row, line: usize) {
        let folder = path.parent().unwrap_or(Path::new(""));
        self.ignored_fields.extend(row.unknown);
        let item = Item {
            id,
            prompt: row.prompt,
            images: row.images.iter().map(|image| folder.join(image)).collect(),
            preference: row.preference,
            weight: row.weight,
            scores: row.scores,
            user: row.user,
            labels: row.labels,
            share: row.share,
            strength: row.strength,
            row: self.items.len(),
        };
        self.items.push((item, line));
    }
}

/// Pairs can be split into labelled images. No other kind can be converted.
fn refuse_wrong_kind(path: &Path, holds: ItemKind, wanted: ItemKind) -> Result<(), WrongKind> {
    match holds == wanted || (holds, wanted) == (ItemKind::Pairs, ItemKind::Labels) {
        true => Ok(()),
        false => Err(WrongKind { file: path.into(), holds, wanted }),
    }
}

/// `path` itself, or the one data file in the folder `path`.
pub(crate) fn find(path: &Path, wanted: ItemKind) -> Result<PathBuf> {
    let name = wanted.name();
    let meta = std::fs::metadata(path).with_context(|| {
        format!("data.path: cannot find {}; expected a {name}.jsonl or a folder with one", path.display())
    })?;
    if !meta.is_dir() {
        return Ok(path.to_path_buf());
    }
    let mut found = Vec::new();
    for entry in std::fs::read_dir(path).with_context(|| format!("cannot list {}", path.display()))? {
        let file = entry.with_context(|| format!("cannot list {}", path.display()))?.path();
        if file.is_file() && file.extension().is_some_and(|e| e == "jsonl") {
            found.push(file);
        }
    }
    found.sort();
    match found.as_slice() {
        [one] => Ok(one.clone()),
        [] => {
            bail!(
                "data.path: the folder {} holds no .jsonl file; expected exactly one, as {name}.jsonl",
                path.display()
            )
        }
        many => {
            let names: Vec<_> = many.iter().filter_map(|f| f.file_name()).map(|n| n.to_string_lossy()).collect();
            bail!(
                "data.path: the folder {} holds {} data files ({}), expected exactly one; name the file itself",
                path.display(),
                many.len(),
                names.join(", ")
            )
        }
    }
}
