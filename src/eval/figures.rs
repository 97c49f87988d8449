//! From numbers of pictures to figures of models.

use super::groups::{Cell, PromptGroup};
use super::intervals::paired_bootstrap;
use crate::metrics::evaluation::{Compared, Interval};
use crate::metrics::wins;
use crate::scorers::{Better, Measure, Table};
use std::collections::BTreeMap;

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
        if !measure.is_share() && measure.better != Better::Neither {
            let rivals = models.iter().skip(1);
            compared.win_rates =
                rivals.filter_map(|rival| win_rate(group, cells, &models[0], rival, measure.better)).collect();
        }
        Some((group.name.to_string(), compared))
    };
    groups.iter().filter_map(figures).collect()
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
