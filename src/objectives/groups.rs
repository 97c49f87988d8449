//! Items of a step that a loss compares with each other.

use super::Errors;
use crate::data::batches::BatchItem;
use pipelines::LevelRange;
use tch::Tensor;

/// Noise levels and blocks of items.
pub struct Places {
    levels: Vec<f64>,
    blocks: Vec<u64>,
    range: LevelRange,
}

impl Places {
    pub fn of(errors: &Errors) -> Self {
        let each = |items: &[BatchItem]| items.iter().map(|item| (item.level, item.block)).unzip();
        let (levels, blocks) = each(&errors.items);
        Self { levels, blocks, range: errors.range }
    }

    /// Indices of the items in each of `parts` equal parts of the noise levels; a part without an item is absent.
    pub fn by_level(&self, parts: i64) -> Vec<Vec<i64>> {
        grouped(self.levels.iter().map(|level| self.range.part(*level, parts)))
    }

    /// Indices of the items of each block, which share one noise level.
    pub fn by_block(&self) -> Vec<Vec<i64>> {
        grouped(self.blocks.iter().copied())
    }
}

/// Indices of equal keys, in the order in which keys appear.
fn grouped<K: PartialEq>(keys: impl Iterator<Item = K>) -> Vec<Vec<i64>> {
    let mut groups: Vec<(K, Vec<i64>)> = Vec::new();
    for (i, key) in keys.enumerate() {
        match groups.iter_mut().find(|(known, _)| *known == key) {
            Some((_, members)) => members.push(i as i64),
            None => groups.push((key, vec![i as i64])),
        }
    }
    groups.into_iter().map(|(_, members)| members).collect()
}

/// Indices as a tensor `[n]`, on the device of `like`.
pub fn index(members: &[i64], like: &Tensor) -> Tensor {
    Tensor::from_slice(members).to_device(like.device())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn items_are_grouped_by_fifths_of_the_levels_and_by_block() {
        let places =
            Places { levels: vec![0.0, 999.0, 199.0, 200.0], blocks: vec![3, 3, 0, 3], range: LevelRange::Steps(1000) };
        assert_eq!(places.by_level(1), [[0, 1, 2, 3]]);
        assert_eq!(places.by_level(5), [vec![0, 2], vec![1], vec![3]]);
        assert_eq!(places.by_block(), [vec![0, 1, 3], vec![2]]);
    }
}
