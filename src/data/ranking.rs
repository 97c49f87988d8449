//! Preferences from scores, votes and ranks.

use super::image_ref::ImageRef;
use super::item::{Item, Preference};
use serde::{Deserialize, Serialize};
use std::collections::hash_map::Entry;
use std::collections::{BTreeMap, HashMap};
use std::fmt::{Display, Formatter};
use std::str::FromStr;

/// `[data] labels`: the labeller of pairs.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum Labels {
    /// The winner of the row.
    #[default]
    Given,
    /// The image with the higher score of this scorer.
    Score(String),
    /// The image that more of these scorers score higher; an equal score is no vote.
    Vote(Vec<String>),
}

impl Labels {
    /// Expected form of a text.
    pub const EXPECTED: &str = "\"given\", \"score:NAME\", or \"vote:A,B,..\" of at least two scorers";

    /// Reads `given`, `score:NAME` or `vote:A,B,..` (at least two scorers, each once).
    pub fn parse(text: &str) -> Option<Self> {
        let name = |text: &str| (!text.trim().is_empty()).then(|| text.trim().to_string());
        if text == "given" {
            return Some(Self::Given);
        }
        if let Some(scorer) = text.strip_prefix("score:") {
            return name(scorer).map(Self::Score);
        }
        let scorers: Vec<String> = text.strip_prefix("vote:")?.split(',').map(name).collect::<Option<_>>()?;
        let once = (1..scorers.len()).all(|i| !scorers[..i].contains(&scorers[i]));
        (scorers.len() >= 2 && once).then_some(Self::Vote(scorers))
    }

    /// The scorers read by this rule.
    pub fn scorers(&self) -> &[String] {
        match self {
            Self::Given => &[],
            Self::Score(scorer) => std::slice::from_ref(scorer),
            Self::Vote(scorers) => scorers,
        }
    }

    /// Place (0 or 1) of the winner among the images of a pair; `None` for a tie. A scorer without scores of the pair
    /// has no vote.
    pub(super) fn winner(&self, pair: &Item) -> Option<usize> {
        let ahead = |scorer: &String| match pair.scores.get(scorer).map(Vec::as_slice) {
            Some([first, second]) => i32::from(first > second) - i32::from(first < second),
            _ => 0,
        };
        let votes: i32 = match self {
            Self::Given => 1,
            Self::Score(_) | Self::Vote(_) => self.scorers().iter().map(ahead).sum(),
        };
        match votes {
            0 => None,
            votes => Some(usize::from(votes < 0)),
        }
    }
}

impl FromStr for Labels {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        Self::parse(text).ok_or_else(|| format!("expected {}", Self::EXPECTED))
    }
}

impl TryFrom<String> for Labels {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        text.parse()
    }
}

impl From<Labels> for String {
    fn from(labels: Labels) -> Self {
        labels.to_string()
    }
}

impl Display for Labels {
    fn fmt(&self, f: &mut Formatter) -> std::fmt::Result {
        match self {
            Self::Given => f.write_str("given"),
            Self::Score(scorer) => write!(f, "score:{scorer}"),
            Self::Vote(scorers) => write!(f, "vote:{}", scorers.join(",")),
        }
    }
}

/// phi of each of k images (docs/methods.md, section 8): wins over the other k - 1 images, summed over the scorers,
/// divided by n (k - 1). An equal score is no win. `scorers` holds k scores each, higher is better.
pub fn win_fractions<'a>(scorers: impl IntoIterator<Item = &'a [f64]>, k: usize) -> Vec<f64> {
    let (mut wins, mut n) = (vec![0usize; k], 0);
    for scores in scorers {
        n += 1;
        for (wins, score) in wins.iter_mut().zip(scores) {
            *wins += scores.iter().filter(|other| score > *other).count();
        }
    }
    let games = (n * k.saturating_sub(1)).max(1) as f64;
    wins.into_iter().map(|wins| wins as f64 / games).collect()
}

/// Labelled images of pairs: one item per distinct image and prompt, in order of first appearance, desirable if it won
/// once. `winners` has the place of each pair's winner.
pub(super) fn labelled(pairs: &[Item], winners: &[Option<usize>]) -> Vec<Item> {
    let mut items: Vec<Item> = Vec::new();
    let mut places: HashMap<(&ImageRef, &str), usize> = HashMap::new();
    for (pair, winner) in pairs.iter().zip(winners) {
        for (place, (image, suffix)) in pair.images.iter().zip(["w", "l"]).enumerate() {
            let won = *winner == Some(place);
            match places.entry((image, pair.prompt.as_str())) {
                Entry::Occupied(seen) => {
                    if let Preference::Label { desirable } = &mut items[*seen.get()].preference {
                        *desirable |= won;
                    }
                }
                Entry::Vacant(new) => {
                    new.insert(items.len());
                    let of_image = |(scorer, scores): (&String, &Vec<f64>)| {
                        scores.get(place).map(|score| (scorer.clone(), vec![*score]))
                    };
                    items.push(Item {
                        id: format!("{}:{suffix}", pair.id),
                        prompt: pair.prompt.clone(),
                        images: vec![image.clone()],
                        preference: Preference::Label { desirable: won },
                        weight: None,
                        scores: pair.scores.iter().filter_map(of_image).collect(),
                        user: pair.user.clone(),
                        labels: BTreeMap::new(),
                        share: None,
                        strength: None,
                        row: pair.row,
                    });
                }
            }
        }
    }
    items
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn phi_is_that_of_the_fixture_and_equal_scores_win_nothing() {
        // docs/methods.md 21.8
        assert_eq!(win_fractions([&[3.0, 2.0, 1.0][..], &[2.0, 3.0, 1.0]], 3), [0.75, 0.75, 0.0]);
        assert_eq!(win_fractions([&[1.0, 1.0][..]], 2), [0.0, 0.0]);
        assert_eq!(win_fractions([&[5.0, 5.0, 1.0][..]], 3), [0.5, 0.5, 0.0]);
    }

    #[test]
    fn votes_count_scorers_and_not_their_distances() {
        // docs/methods.md 21.6, balanced
        let pair = |differences: &[f64]| {
            let scores = differences.iter().enumerate().map(|(i, d)| (format!("s{i}"), vec![*d, 0.0])).collect();
            let preference = Preference::Pair { tie: false };
            let images = vec!["w".into(), "l".into()];
            Item {
                id: "p".into(),
                prompt: "".into(),
                images,
                preference,
                weight: None,
                scores,
                user: None,
                labels: BTreeMap::new(),
                share: None,
                strength: None,
                row: 0,
            }
        };
        let vote = Labels::parse("vote:s0,s1, s2,s3").unwrap();
        assert_eq!(vote.winner(&pair(&[0.1, -0.2, 0.3, 0.05])), Some(0));
        assert_eq!(vote.winner(&pair(&[0.1, -0.2, 0.3, -0.05])), None);
        assert_eq!(vote.winner(&pair(&[0.0, -0.2, 9.0, -0.05])), Some(1));
        assert_eq!(Labels::parse("score:s1").unwrap().winner(&pair(&[0.1, -0.2])), Some(1));
        assert_eq!(Labels::Given.winner(&pair(&[])), Some(0));
    }

    #[test]
    fn labels_are_read_as_written_or_not_at_all() {
        assert_eq!(Labels::parse("score: hps"), Some(Labels::Score("hps".into())));
        assert_eq!(Labels::parse("vote:a,b"), Some(Labels::Vote(vec!["a".into(), "b".into()])));
        for wrong in ["", "human", "score:", "score: ", "vote:", "vote:a", "vote:a,", "vote:a,a", "Score:x"] {
            assert_eq!(Labels::parse(wrong), None, "{wrong}");
        }
    }
}
