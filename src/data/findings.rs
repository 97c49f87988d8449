//! Pairs that teach nothing or contradict each other.

use super::item::{Item, Preference};
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, HashMap, HashSet};
use std::hash::Hash;

/// Faults of a pair in view of the others.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Marks {
    /// Winner and loser are one image.
    pub same_image: bool,
    /// An earlier pair has this prompt, winner and loser.
    pub repeated: bool,
    /// Another pair of this prompt has winner and loser the other way round. Ties contradict nothing.
    pub contradicting: bool,
}

/// Marks of pairs (prompt, winner, loser, tie). `K` tells images apart: by their place, or by their content.
pub fn marks<P: Hash + Eq + Copy, K: Hash + Eq + Copy>(pairs: &[(P, K, K, bool)]) -> Vec<Marks> {
    let decided: HashSet<(P, K, K)> =
        pairs.iter().filter(|pair| !pair.3).map(|(prompt, w, l, _)| (*prompt, *w, *l)).collect();
    let mut seen: HashSet<(P, K, K)> = HashSet::with_capacity(pairs.len());
    let mark = |(prompt, winner, loser, tie): &(P, K, K, bool)| Marks {
        same_image: winner == loser,
        repeated: !seen.insert((*prompt, *winner, *loser)),
        contradicting: !tie && winner != loser && decided.contains(&(*prompt, *loser, *winner)),
    };
    pairs.iter().map(mark).collect()
}

/// Numbers of such pairs.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Findings {
    pub same_image: usize,
    pub repeated: usize,
    pub contradicting: usize,
    /// Scorer -> pairs whose winner it scores below the loser.
    pub scored_against: BTreeMap<String, usize>,
}

impl Findings {
    /// Findings by the places of images, without reading one. Nothing for items that are no pairs.
    pub fn of(items: &[Item]) -> Self {
        let mut prompts: HashMap<&str, usize> = HashMap::new();
        let mut pairs = Vec::with_capacity(items.len());
        let mut findings = Self::default();
        for item in items {
            let (Preference::Pair { tie }, [winner, loser]) = (&item.preference, item.images.as_slice()) else {
                continue;
            };
            let next = prompts.len();
            pairs.push((*prompts.entry(&item.prompt).or_insert(next), winner, loser, *tie));
            if !tie {
                findings.add_scores(&item.scores);
            }
        }
        findings.add(&marks(&pairs));
        findings
    }

    /// Counts marks.
    pub fn add(&mut self, marks: &[Marks]) {
        let count = |has: fn(&Marks) -> bool| marks.iter().filter(|mark| has(mark)).count();
        self.same_image += count(|mark| mark.same_image);
        self.repeated += count(|mark| mark.repeated);
        self.contradicting += count(|mark| mark.contradicting);
    }

    /// Counts the scorers that are against the winner of a pair.
    pub fn add_scores(&mut self, scores: &BTreeMap<String, Vec<f64>>) {
        for (scorer, numbers) in scores {
            if numbers.first() < numbers.get(1) {
                *self.scored_against.entry(scorer.clone()).or_default() += 1;
            }
        }
    }

    /// A sentence per finding.
    pub fn notes(&self) -> Vec<String> {
        let counts = [
            (self.same_image, "pairs have one image as winner and loser"),
            (self.repeated, "pairs repeat an earlier pair of their prompt"),
            (self.contradicting, "pairs contradict another pair of their prompt"),
        ];
        let of_counts = counts.iter().filter(|(n, _)| *n > 0).map(|(n, what)| format!("{n} {what}"));
        let of_scores = self
            .scored_against
            .iter()
            .map(|(scorer, n)| format!("{n} pairs have a winner that {scorer} scores below the loser"));
        of_counts.chain(of_scores).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pairs_that_say_nothing_or_the_opposite_are_marked() {
        let pairs = [
            (0, 'a', 'b', false),
            (0, 'a', 'b', false),
            (0, 'b', 'a', false),
            (1, 'b', 'a', false),
            (0, 'c', 'c', false),
            (0, 'd', 'e', false),
            (0, 'e', 'd', true),
        ];
        let said = marks(&pairs).into_iter().map(|mark| {
            let letter = |has: bool, letter: &str| if has { letter.to_string() } else { String::new() };
            letter(mark.same_image, "s") + &letter(mark.repeated, "r") + &letter(mark.contradicting, "c")
        });
        assert_eq!(said.collect::<Vec<_>>(), ["c", "rc", "c", "", "s", "", ""]);
    }

    #[test]
    fn findings_are_counted_and_told() {
        let mut findings = Findings::default();
        findings.add(&marks(&[(0, 'a', 'b', false), (0, 'b', 'a', false)]));
        findings
            .add_scores(&BTreeMap::from([("hps".to_string(), vec![0.1, 0.2]), ("clip".to_string(), vec![1.0, 1.0])]));
        assert_eq!(
            findings.notes(),
            [
                "2 pairs contradict another pair of their prompt",
                "1 pairs have a winner that hps scores below the loser"
            ]
        );
    }
}
