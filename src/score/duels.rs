//! Comparisons of a prompt's pictures by a judge, every two in both orders, and each picture's share of them.

use super::memory::Memory;
use crate::machine::hashes::{self, HashMemory};
use crate::progress::{Progress, Stop};
use crate::scorers::{Better, Measure, Named, Scope, ScorerSpec};
use anyhow::{Context, Result};
use image::RgbImage;
use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::path::Path;
use std::time::Instant;

/// Name of the measure in scores.jsonl.
pub const WIN_SHARE: &str = "win_share";

/// Mean probability to be the better one, over the other pictures of the prompt.
pub fn measure() -> Measure {
    Measure::number(WIN_SHARE, "", (Some(0.0), Some(1.0)), Better::Higher, Scope::Prompt)
}

/// A scorer that compares, with its stored answers.
pub struct Judge {
    pub spec: ScorerSpec,
    pub named: Named,
    memory: Memory,
    /// Comparisons made by this process, and the seconds that they took.
    pub compared: usize,
    pub seconds: f64,
}

/// Pictures of one prompt, by the hashes of their files.
pub struct Group<'a> {
    pub prompt: &'a str,
    pub pictures: Vec<(&'a Path, &'a str)>,
}

impl Group<'_> {
    /// Ordered pairs of different pictures.
    fn duels(&self) -> impl Iterator<Item = (usize, usize)> {
        let n = self.pictures.len();
        (0..n)
            .flat_map(move |a| (0..n).map(move |b| (a, b)))
            .filter(|(a, b)| self.pictures[*a].1 != self.pictures[*b].1)
    }
}

impl Judge {
    /// # Errors
    /// Unreadable files of the judge; a cache folder that cannot be written.
    pub fn new(spec: ScorerSpec, named: Named, cache_dir: &Path, hashes: &mut HashMemory) -> Result<Self> {
        let fingerprint = spec.fingerprint(named.scorer.as_ref(), &[], hashes)?;
        let file = format!("{}-compared-{}", spec.name, fingerprint.get(..16).unwrap_or(&fingerprint));
        let memory = Memory::open(&cache_dir.join("scores"), &file, 1)?;
        Ok(Self { spec, named, memory, compared: 0, seconds: 0.0 })
    }

    /// Makes all comparisons that are not stored. `decode` reads a picture; each is read once per prompt.
    ///
    /// # Errors
    /// Those of the judge; [`crate::progress::Stopped`] after a signal.
    pub fn compare(
        &mut self,
        groups: &[Group],
        batch: usize,
        decode: impl Fn(&Path) -> Result<RgbImage>,
        progress: &dyn Progress,
        stop: &Stop,
    ) -> Result<()> {
        let wanted = |judge: &Self, group: &Group| -> Vec<(usize, usize)> {
            group.duels().filter(|duel| judge.memory.get(&key(group, *duel)).is_none()).collect()
        };
        let all: u64 = groups.iter().map(|group| group.duels().count() as u64).sum();
        let missing: u64 = groups.iter().map(|group| wanted(self, group).len() as u64).sum();
        progress.begin("compare", all - missing, all);
        let compared = groups.iter().try_for_each(|group| {
            let mut pictures: HashMap<usize, RgbImage> = HashMap::new();
            for duels in wanted(self, group).chunks(batch) {
                stop.check()?;
                for index in duels.iter().flat_map(|(a, b)| [*a, *b]) {
                    if let Entry::Vacant(place) = pictures.entry(index) {
                        place.insert(decode(group.pictures[index].0)?);
                    }
                }
                self.ask(group, duels, &pictures)?;
                progress.advance(all - missing + self.compared as u64, "");
            }
            Ok(())
        });
        progress.end();
        compared
    }

    fn ask(&mut self, group: &Group, duels: &[(usize, usize)], pictures: &HashMap<usize, RgbImage>) -> Result<()> {
        let side = |index: usize| pictures.get(&index).cloned().context("a picture was not decoded");
        let first = duels.iter().map(|(a, _)| side(*a)).collect::<Result<Vec<_>>>()?;
        let second = duels.iter().map(|(_, b)| side(*b)).collect::<Result<Vec<_>>>()?;
        let began = Instant::now();
        let answers = self.named.scorer.compare(&first, &second, &vec![group.prompt; duels.len()]);
        let answers = answers.with_context(|| format!("scorer \"{}\" cannot compare", self.named.name))?;
        self.seconds += began.elapsed().as_secs_f64();
        self.compared += duels.len();
        let rows = duels.iter().map(|duel| key(group, *duel)).zip(answers.into_iter().map(|p| vec![p]));
        self.memory.extend(rows.collect())
    }

    /// Probability that picture a is better than picture b: p = (p(a, b) + 1 - p(b, a)) / 2. `None`: not compared.
    fn fair(&self, group: &Group, a: usize, b: usize) -> Option<f64> {
        let [p, q] = [(a, b), (b, a)].map(|duel| self.memory.get(&key(group, duel))?.first().copied());
        Some(fair(p?, q?))
    }

    /// Mean of [`fair`](Self::fair) over the other pictures; 0.5 for the only picture of a prompt.
    pub fn win_share(&self, group: &Group, hash: &str) -> f64 {
        let Some(own) = group.pictures.iter().position(|(_, other)| *other == hash) else { return 0.5 };
        let others = (0..group.pictures.len()).filter_map(|other| self.fair(group, own, other));
        crate::numbers::mean(others.collect::<Vec<_>>()).unwrap_or(0.5)
    }

    /// Mean of |p(a, b) + p(b, a) - 1|: how far answers depend on the order. `None` without comparisons.
    pub fn order_inconsistency(&self, groups: &[Group]) -> Option<f64> {
        let of = |group: &Group| {
            let off = group.duels().filter_map(|(a, b)| {
                let [p, q] = [(a, b), (b, a)].map(|duel| self.memory.get(&key(group, duel))?.first().copied());
                Some((p? + q? - 1.0).abs())
            });
            off.collect::<Vec<f64>>()
        };
        crate::numbers::mean(groups.iter().flat_map(of).collect::<Vec<_>>())
    }
}

/// Both orders as one probability (docs/methods.md 28.6).
fn fair(forth: f64, back: f64) -> f64 {
    (forth + 1.0 - back) / 2.0
}

fn key(group: &Group, (a, b): (usize, usize)) -> String {
    let (first, second) = (group.pictures[a].1, group.pictures[b].1);
    format!("{first}-{second}-{}", hashes::of_bytes(group.prompt.as_bytes()))
}

#[cfg(test)]
mod tests {
    #[test]
    fn both_orders_become_one_probability() {
        // docs/methods.md 31.6
        assert!((super::fair(0.8, 0.4) - 0.7).abs() < 1e-12);
    }
}
