//! Files of votes of people on pictures of a prompt.

use super::candidates::Candidates;
use super::vote::Vote;
use anyhow::{Context, Result, bail, ensure};
use serde::Deserialize;
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::path::{Path, PathBuf};

/// Name of voters that a row does not name.
const UNNAMED: &str = "unnamed";
const EXPECTED: &str = "expected {\"prompt\": TEXT, \"winner\": PATH, \"loser\": PATH} with \"label\": \"tie\" for a tie and \
                        \"voter\": NAME if it is known";

/// A row of a file of votes.
#[derive(Deserialize)]
struct Row {
    prompt: String,
    winner: PathBuf,
    loser: PathBuf,
    label: Option<Label>,
    voter: Option<String>,
}

#[derive(Deserialize, PartialEq)]
#[serde(rename_all = "snake_case")]
enum Label {
    Tie,
}

/// Reads files of votes: prompts in order of first appearance, with the pictures that somebody voted on.
///
/// # Errors
/// A row that does not parse, a missing picture, a picture against itself: the text names file and row.
pub fn read(files: &[PathBuf]) -> Result<Vec<Candidates>> {
    let mut prompts: Vec<Candidates> = Vec::new();
    let mut places: HashMap<String, usize> = HashMap::new();
    for file in files {
        let text = std::fs::read_to_string(file).with_context(|| format!("cannot read {}", file.display()))?;
        let dir = file.parent().unwrap_or(Path::new(""));
        for (index, line) in text.lines().enumerate().filter(|(_, line)| !line.trim().is_empty()) {
            let here = || format!("{}:{}", file.display(), index + 1);
            let row: Row = serde_json::from_str(line).with_context(|| format!("{}: {EXPECTED}", here()))?;
            let find = |picture: &Path| {
                let picture = dir.join(picture);
                picture.canonicalize().with_context(|| format!("{}: cannot find {}", here(), picture.display()))
            };
            let (winner, loser) = (find(&row.winner)?, find(&row.loser)?);
            ensure!(winner != loser, "{}: a vote on {} against itself; remove the row", here(), winner.display());
            let next = prompts.len();
            let place = *places.entry(row.prompt.clone()).or_insert(next);
            if place == next {
                prompts.push(Candidates { prompt: row.prompt, ..Candidates::default() });
            }
            let of = &mut prompts[place];
            let (winner, loser) = (of.place(winner), of.place(loser));
            let voter = row.voter.unwrap_or_else(|| UNNAMED.into());
            of.votes.push(Vote { winner, loser, tie: row.label == Some(Label::Tie), voter });
        }
    }
    if prompts.is_empty() {
        let names: Vec<String> = files.iter().map(|file| file.display().to_string()).collect();
        bail!("{}: no vote; {EXPECTED}", names.join(", "));
    }
    Ok(prompts)
}

/// Number of voters, and votes by voter that do not fit the others: those against the scores on corrupted comparisons.
pub fn misfits(
    prompts: &[Candidates],
    corrupted: &BTreeMap<usize, BTreeSet<(usize, usize)>>,
    scores: &BTreeMap<usize, Vec<f64>>,
) -> (usize, BTreeMap<String, usize>) {
    let voters: BTreeSet<&str> = prompts.iter().flat_map(|of| &of.votes).map(|vote| vote.voter.as_str()).collect();
    let mut found = BTreeMap::new();
    for (prompt, pairs) in corrupted {
        let (Some(of), Some(scores)) = (prompts.get(*prompt), scores.get(prompt)) else { continue };
        for vote in of.votes.iter().filter(|vote| !vote.tie) {
            let pair = (vote.winner.min(vote.loser), vote.winner.max(vote.loser));
            if pairs.contains(&pair) && scores[vote.winner] < scores[vote.loser] {
                *found.entry(vote.voter.clone()).or_default() += 1;
            }
        }
    }
    (voters.len(), found)
}
