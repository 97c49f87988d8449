//! [data]: rows that are left out before the split, by reason. All filters are off by default.

use super::findings::marks;
use super::image_ref::ImageRef;
use super::item::Item;
use crate::machine::hashes::HashMemory;
use anyhow::{Result, anyhow};
use std::collections::{BTreeMap, HashMap};
use std::path::PathBuf;

crate::choice! {
    /// Treatment of pairs that a filter finds.
    #[derive(Default)]
    pub enum Finding {
        #[default]
        Keep = "keep",
        Drop = "drop",
    }
}

crate::choice! {
    /// Why a row is left out.
    #[derive(Hash, PartialOrd, Ord)]
    pub enum Reason {
        BlockedWord = "blocked_words",
        Gap = "min_gap",
        SameImage = "same_image",
        Contradiction = "contradictions",
        Repeated = "repeated",
        PromptLimit = "max_per_prompt",
    }
}

impl Reason {
    /// The end of a sentence about rows.
    pub fn words(self) -> &'static str {
        match self {
            Self::BlockedWord => "have a word of data.blocked_words",
            Self::Gap => "have a score gap below data.min_gap",
            Self::SameImage => "have one image as winner and loser",
            Self::Repeated => "repeat an earlier pair of their prompt",
            Self::Contradiction => "contradict another pair of their prompt",
            Self::PromptLimit => "are beyond data.max_per_prompt of their prompt",
        }
    }
}

/// Number of rows left out, by reason.
pub type Filtered = BTreeMap<Reason, usize>;

/// The filters of a run.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Filters {
    pub same_image: bool,
    pub repeated: bool,
    pub contradictions: bool,
    /// Scorer, and least score of the winner minus that of the loser.
    pub gap: Option<(String, f64)>,
    /// In small letters.
    pub blocked_words: Vec<String>,
    /// 0: all.
    pub max_per_prompt: usize,
    /// Folder of remembered hashes of images.
    pub cache_dir: PathBuf,
}

/// An item in view of the filters: images as judged.
pub struct Judged<'a> {
    pub item: &'a Item,
    /// Place of the winner among the images; `None` for a tie and for items that are no pairs.
    pub winner: Option<usize>,
}

impl Filters {
    /// The reason why each item is left out; `None`: it stays. Filters apply in the order of [`Reason`], each to what the
    /// ones before it left.
    ///
    /// # Errors
    /// An image that cannot be hashed for another reason than being absent.
    pub fn reasons(&self, items: &[Judged]) -> Result<Vec<Option<Reason>>> {
        let mut reasons: Vec<Option<Reason>> = items.iter().map(|judged| self.alone(judged)).collect();
        if self.same_image || self.repeated || self.contradictions {
            self.by_content(items, &mut reasons)?;
        }
        if self.max_per_prompt > 0 {
            let mut counts: HashMap<&str, usize> = HashMap::new();
            for (judged, reason) in items.iter().zip(&mut reasons).filter(|(_, reason)| reason.is_none()) {
                let count = counts.entry(&judged.item.prompt).or_default();
                *count += 1;
                *reason = (*count > self.max_per_prompt).then_some(Reason::PromptLimit);
            }
        }
        Ok(reasons)
    }

    /// Filters that look at one item.
    fn alone(&self, judged: &Judged) -> Option<Reason> {
        let mut words = judged.item.prompt.split(|c: char| !c.is_alphanumeric()).filter(|word| !word.is_empty());
        if !self.blocked_words.is_empty() && words.any(|word| self.blocked_words.contains(&word.to_lowercase())) {
            return Some(Reason::BlockedWord);
        }
        let (Some((scorer, least)), Some(winner)) = (&self.gap, judged.winner) else { return None };
        let scores = judged.item.scores.get(scorer)?;
        let gap = scores.get(winner)? - scores.get(1 - winner.min(1))?;
        (gap < *least).then_some(Reason::Gap)
    }

    /// Filters that compare the bytes of images. Images that cannot be read are equal to no other.
    fn by_content(&self, items: &[Judged], reasons: &mut [Option<Reason>]) -> Result<()> {
        let mut memory = HashMemory::open(&self.cache_dir);
        let mut contents = Contents::default();
        let (mut places, mut pairs) = (Vec::new(), Vec::new());
        for (place, judged) in items.iter().enumerate().filter(|(place, _)| reasons[*place].is_none()) {
            let [first, second] = judged.item.images.as_slice() else { continue };
            let images = [contents.of(first, &mut memory)?, contents.of(second, &mut memory)?];
            let winner = judged.winner.unwrap_or(0).min(1);
            places.push(place);
            pairs.push((judged.item.prompt.as_str(), images[winner], images[1 - winner], judged.winner.is_none()));
        }
        memory.save();
        for (place, mark) in places.into_iter().zip(marks(&pairs)) {
            let found = [
                (self.same_image && mark.same_image, Reason::SameImage),
                (self.contradictions && mark.contradicting, Reason::Contradiction),
                (self.repeated && mark.repeated, Reason::Repeated),
            ];
            reasons[place] = found.iter().find(|(found, _)| *found).map(|(_, reason)| *reason);
        }
        Ok(())
    }
}

/// Contents of images as numbers.
#[derive(Default)]
struct Contents {
    numbers: HashMap<String, usize>,
    next: usize,
}

impl Contents {
    fn of(&mut self, image: &ImageRef, memory: &mut HashMemory) -> Result<usize> {
        use super::unreadable::Unreadable::{Empty, Missing};
        let content = match image.sha256(memory) {
            Ok(hash) => hash,
            // By its place: it is left out later anyway.
            Err(Missing | Empty) => image.to_string(),
            Err(reason) => return Err(anyhow!("{image}: {reason}")),
        };
        let next = self.next;
        let number = *self.numbers.entry(content).or_insert(next);
        self.next = self.numbers.len();
        Ok(number)
    }
}

/// A sentence per reason.
pub fn notes(filtered: &Filtered, rows: usize) -> Vec<String> {
    filtered.iter().map(|(reason, n)| format!("{n} of {rows} rows {} and are left out", reason.words())).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::data::item::Preference;

    fn item(prompt: &str, images: [&str; 2], scores: [f64; 2]) -> Item {
        Item {
            id: "p".into(),
            prompt: prompt.into(),
            images: images.iter().map(|image| ImageRef::from(*image)).collect(),
            preference: Preference::Pair { tie: false },
            weight: None,
            scores: BTreeMap::from([("hps".to_string(), scores.to_vec())]),
            user: None,
            labels: BTreeMap::new(),
            share: None,
            strength: None,
            row: 0,
        }
    }

    #[test]
    fn rows_are_left_out_by_the_first_reason_that_applies() {
        let items = [
            item("a cat", ["a", "b"], [0.2, 0.1]),
            item("a cat", ["b", "a"], [0.2, 0.1]),
            item("a CAT, nude", ["c", "d"], [0.2, 0.1]),
            item("a cat", ["c", "d"], [0.1, 0.2]),
            item("a dog", ["e", "e"], [0.3, 0.1]),
            item("a dog", ["e", "f"], [0.3, 0.1]),
            item("a dog", ["e", "f"], [0.3, 0.1]),
            item("a dog", ["g", "h"], [0.3, 0.1]),
            item("a nudelman", ["g", "h"], [0.3, 0.1]),
        ];
        let judged: Vec<Judged> = items.iter().map(|item| Judged { item, winner: Some(0) }).collect();
        let dir = tempfile::tempdir().unwrap();
        let filters = Filters {
            same_image: true,
            repeated: true,
            contradictions: true,
            gap: Some(("hps".into(), 0.0)),
            blocked_words: vec!["nude".into()],
            max_per_prompt: 1,
            cache_dir: dir.path().to_path_buf(),
        };
        use Reason::{BlockedWord, Contradiction, Gap, PromptLimit, Repeated, SameImage};
        let expected = [
            Some(Contradiction),
            Some(Contradiction),
            Some(BlockedWord),
            Some(Gap),
            Some(SameImage),
            None,
            Some(Repeated),
            Some(PromptLimit),
            None,
        ];
        assert_eq!(filters.reasons(&judged).unwrap(), expected);
        assert!(Filters::default().reasons(&judged).unwrap().iter().all(Option::is_none));
        // The winner by another label is the other image: its gap is negative.
        let other = [Judged { item: &items[0], winner: Some(1) }];
        assert_eq!(filters.reasons(&other).unwrap(), [Some(Gap)]);
    }
}
