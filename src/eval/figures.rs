//! From numbers of pictures to figures of models.

use super::groups::{Cell, PromptGroup};
use super::signs::{leaders, sign_test};
use crate::metrics::evaluation::{BestThird, Compared, Distribution, Interval};
use crate::metrics::{paired_bootstrap, wins};
use crate::numbers::median;
use crate::scorers::{Better, Measure, Range, Table};
use std::collections::BTreeMap;

/// Bins of a distribution.
const BINS: usize = 10;

/// The figures of one measure, by group. `tables`: one per model, one row per cell; `column`: the measure's.
pub fn by_group(
    groups: &[PromptGroup],
    cells: &[Cell],
    tables: &[Table],
    measure: &Measure,
    column: usize,
) -> BTreeMap<String, Compared> {
    let models: Vec<Vec<f64>> = tables.iter().map(|table| table.column(column)).collect();
    let figures = |group: &PromptGroup| {
        let per_model: Vec<Vec<f64>> = models.iter().map(|numbers| per_prompt(group, cells, numbers)).collect();
        let mut compared = paired_bootstrap(&per_model)?;
        compared.medians = per_model.iter().filter_map(|numbers| median(numbers)).collect();
        if measure.better != Better::Neither {
            let rivals = per_model.iter().skip(1);
            compared.sign_tests = rivals.map(|rival| sign_test(&per_model[0], rival, measure.better)).collect();
            compared.leaders = leaders(&per_model, measure.better);
        }
        if !measure.is_share() {
            let of_group: Vec<Vec<f64>> = models.iter().map(|numbers| counted(group, cells, numbers)).collect();
            compared.distribution = distribution(&of_group, measure.range);
            if measure.better != Better::Neither {
                let rivals = models.iter().skip(1);
                compared.win_rates =
                    rivals.filter_map(|rival| win_rate(group, cells, &models[0], rival, measure.better)).collect();
                compared.best_third = best_third(group, cells, &models, &of_group[0], measure.better);
            }
        }
        Some((group.name.to_string(), compared))
    };
    groups.iter().filter_map(figures).collect()
}

/// The numbers of the pictures that count for a group.
fn counted(group: &PromptGroup, cells: &[Cell], numbers: &[f64]) -> Vec<f64> {
    let counts = |cell: &Cell| cell.seed < group.seeds && group.prompts.contains(&cell.prompt);
    cells.iter().zip(numbers).filter(|(cell, _)| counts(cell)).map(|(_, number)| *number).collect()
}

/// Shares of pictures as good as the best third of the first model's. `first`: its numbers in the group.
fn best_third(
    group: &PromptGroup,
    cells: &[Cell],
    models: &[Vec<f64>],
    first: &[f64],
    better: Better,
) -> Option<BestThird> {
    let mut sorted = first.to_vec();
    sorted.sort_by(f64::total_cmp);
    if better == Better::Higher {
        sorted.reverse();
    }
    let threshold = *sorted.get((sorted.len() / 3).max(1) - 1)?;
    let reaches = |number: &f64| match better {
        Better::Lower => *number <= threshold,
        Better::Higher | Better::Neither => *number >= threshold,
    };
    let shares = |numbers: &Vec<f64>| {
        let decisions: Vec<f64> = numbers.iter().map(|number| f64::from(reaches(number))).collect();
        per_prompt(group, cells, &decisions)
    };
    let Compared { models, differences, .. } = paired_bootstrap(&models.iter().map(shares).collect::<Vec<_>>())?;
    Some(BestThird { threshold, models, differences })
}

/// Shares of pictures in equal bins over the range of the measure, or of the numbers where it has none.
fn distribution(models: &[Vec<f64>], range: Range) -> Option<Distribution> {
    let (min, max) = match range {
        Range::Real { min, max } => (min, max),
        Range::Decision => return None,
    };
    let all = || models.iter().flatten().copied();
    let from = min.unwrap_or_else(|| all().fold(f64::INFINITY, f64::min));
    let to = max.unwrap_or_else(|| all().fold(f64::NEG_INFINITY, f64::max));
    if !(to > from && from.is_finite() && to.is_finite()) {
        return None;
    }
    let bin = |number: &f64| (((number - from) / (to - from) * BINS as f64) as usize).min(BINS - 1);
    let shares = |numbers: &Vec<f64>| {
        let mut counts = vec![0.0; BINS];
        numbers.iter().for_each(|number| counts[bin(number)] += 1.0);
        counts.into_iter().map(|count: f64| count / numbers.len() as f64).collect()
    };
    Some(Distribution { from, to, models: models.iter().map(shares).collect() })
}

/// The mean number of each prompt of a group. `numbers`: one per cell.
fn per_prompt(group: &PromptGroup, cells: &[Cell], numbers: &[f64]) -> Vec<f64> {
    let mut sums: BTreeMap<usize, (f64, f64)> = group.prompts.iter().map(|prompt| (*prompt, (0.0, 0.0))).collect();
    for (cell, number) in cells.iter().zip(numbers).filter(|(cell, _)| cell.seed < group.seeds) {
        if let Some((sum, count)) = sums.get_mut(&cell.prompt) {
            (*sum, *count) = (*sum + number, *count + 1.0);
        }
    }
    sums.into_values().map(|(sum, count)| sum / count).collect()
}

fn win_rate(group: &PromptGroup, cells: &[Cell], first: &[f64], rival: &[f64], better: Better) -> Option<Interval> {
    let win = |(first, rival): (&f64, &f64)| wins(if better == Better::Lower { first - rival } else { rival - first });
    let won: Vec<f64> = first.iter().zip(rival).map(win).collect();
    paired_bootstrap(&[per_prompt(group, cells, &won)])?.models.first().copied()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::scorers::Scope;

    /// One prompt with six pictures, by two models.
    fn compared(measure: &Measure, first: [f64; 6], second: [f64; 6]) -> Compared {
        let group = PromptGroup { name: "all", prompts: vec![0], seeds: 6 };
        let cells: Vec<Cell> = (0..6).map(|seed| Cell { prompt: 0, seed }).collect();
        let tables = [first, second].map(Table::of_column);
        by_group(&[group], &cells, &tables, measure, 0).remove("all").unwrap()
    }

    #[test]
    fn the_best_third_is_that_of_the_first_model_in_the_direction_of_the_measure() {
        let (first, second) = ([1.0, 2.0, 3.0, 4.0, 5.0, 6.0], [5.0, 5.0, 5.0, 1.0, 1.0, 9.0]);
        let share = |better: Better| {
            let measure = Measure::number("x", "", (None, None), better, Scope::Picture);
            compared(&measure, first, second).best_third
        };
        let higher = share(Better::Higher).unwrap();
        assert_eq!((higher.threshold, higher.models[0].mean, higher.models[1].mean), (5.0, 2.0 / 6.0, 4.0 / 6.0));
        let lower = share(Better::Lower).unwrap();
        assert_eq!((lower.threshold, lower.models[1].mean), (2.0, 2.0 / 6.0));
        assert_eq!(share(Better::Neither), None);
    }

    #[test]
    fn a_distribution_spans_the_range_of_its_measure() {
        let measure = Measure::real("x", "", Some(0.0), Some(1.0), Scope::Picture);
        let found = compared(&measure, [0.0, 0.05, 0.15, 0.95, 1.0, 0.5], [0.0; 6]).distribution.unwrap();
        assert_eq!((found.from, found.to, found.models[1][0]), (0.0, 1.0, 1.0));
        let counts: Vec<f64> = found.models[0].iter().map(|share| (share * 6.0).round()).collect();
        assert_eq!(counts, [2.0, 1.0, 0.0, 0.0, 0.0, 1.0, 0.0, 0.0, 0.0, 2.0]);
    }

    #[test]
    fn no_two_prompts_share_noise() {
        let seeds = [(0, 0), (0, 999), (1, 0), (2, 5)].map(|(prompt, seed)| Cell { prompt, seed }.noise_seed());
        assert_eq!(seeds, [0, 999, 1000, 2005]);
    }
}
