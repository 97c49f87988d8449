//! From opinions on pictures to values of names.

use super::names::Name;
use super::pictures::Place;
use crate::scorers::Opinion;

/// The values of one model by one judge, a value a name that has pictures, in the order of the names.
#[derive(Debug, Clone, PartialEq)]
pub struct PerName {
    /// Share of the pictures of each held-out name that are judged flat.
    pub flat: Vec<f64>,
    /// Share of the pictures of each name in which that name is recognised.
    pub content: Vec<f64>,
}

/// Means over the seeds of each name: style from the first `seeds` of held-out names, content from the first
/// `content_seeds` of all names.
pub fn per_name(names: &[Name], places: &[Place], opinions: &[Opinion], seeds: u64, content_seeds: u64) -> PerName {
    let share = |index: usize, limit: u64, right: &dyn Fn(&Opinion) -> bool| {
        let of_name = places.iter().zip(opinions).filter(|(place, _)| place.name == index && place.seed < limit);
        let (hits, count) =
            of_name.fold((0u32, 0u32), |(hits, count), (_, opinion)| (hits + u32::from(right(opinion)), count + 1));
        (count > 0).then(|| f64::from(hits) / f64::from(count))
    };
    let flat = |(index, name): (usize, &Name)| share(index, seeds, &|o| o.flat > 0.5).filter(|_| name.held_out);
    let content = |(index, name): (usize, &Name)| share(index, content_seeds, &|o| o.name == name.prompt);
    PerName {
        flat: names.iter().enumerate().filter_map(flat).collect(),
        content: names.iter().enumerate().filter_map(content).collect(),
    }
}
