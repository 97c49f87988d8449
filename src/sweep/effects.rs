//! Main effects of axes, and the Pareto front of two metrics.

use super::asha::rank;
use super::file::Direction;
use super::row::{Column, Effect, EffectValue, Row};
use crate::numbers::mean;

/// Main effects on the first column: per method and axis, the mean over the points with each value. Axes with one value
/// have none.
pub fn main_effects(rows: &[Row]) -> Vec<Effect> {
    let mut effects: Vec<Effect> = Vec::new();
    let mut sorted: Vec<&Row> = rows.iter().collect();
    sorted.sort_by_key(|row| row.point);
    for row in &sorted {
        for (axis, _) in &row.coordinates {
            if effects.iter().any(|effect| effect.method == row.method && effect.axis == *axis) {
                continue;
            }
            let values = values(&sorted, &row.method, axis);
            effects.push(Effect { method: row.method.clone(), axis: axis.clone(), values });
        }
    }
    effects.into_iter().filter(|effect| effect.values.len() > 1).collect()
}

/// In the order of the points.
fn values(rows: &[&Row], method: &str, axis: &str) -> Vec<EffectValue> {
    let mut values: Vec<(String, Vec<f64>)> = Vec::new();
    for row in rows.iter().filter(|row| row.method == method) {
        let label = row.coordinates.iter().find(|(name, _)| name == axis).map(|(_, label)| label);
        let (Some(label), Some(Some(figure))) = (label, row.figures.first()) else { continue };
        match values.iter_mut().find(|(known, _)| known == label) {
            Some((_, means)) => means.push(figure.mean),
            None => values.push((label.clone(), vec![figure.mean])),
        }
    }
    let value = |(value, means): (String, Vec<f64>)| EffectValue {
        value,
        points: means.len(),
        mean: mean(means).unwrap_or(f64::NAN),
    };
    values.into_iter().map(value).collect()
}

/// Indices of rows that no other row beats in both columns, the best in the first column first.
pub fn pareto_front(rows: &[Row], first: (usize, &Column), second: (usize, &Column)) -> Vec<usize> {
    let value = |row: &Row, column: usize| row.figures.get(column)?.as_ref().map(|figure| figure.mean);
    let points: Vec<(usize, f64, f64)> = rows
        .iter()
        .enumerate()
        .filter_map(|(index, row)| Some((index, value(row, first.0)?, value(row, second.0)?)))
        .filter(|(_, a, b)| a.is_finite() && b.is_finite())
        .collect();
    let gain = |a: f64, b: f64, direction: Direction| if direction == Direction::Max { a - b } else { b - a };
    let beaten = |point: &(usize, f64, f64)| {
        points.iter().any(|other| {
            let (x, y) = (gain(other.1, point.1, first.1.direction), gain(other.2, point.2, second.1.direction));
            x >= 0.0 && y >= 0.0 && (x > 0.0 || y > 0.0)
        })
    };
    let mut front: Vec<&(usize, f64, f64)> = points.iter().filter(|point| !beaten(point)).collect();
    front.sort_by(|a, b| rank(Some(a.1), Some(b.1), first.1.direction).then(a.0.cmp(&b.0)));
    front.into_iter().map(|(index, _, _)| *index).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sweep::row::Figure;

    fn row(point: usize, labels: [&str; 2], means: [f64; 2]) -> Row {
        let figure = |mean: f64| {
            Some(Figure {
                mean,
                interval: None,
                per_seed: vec![mean],
                start: None,
                against_start: None,
                against_winner: None,
            })
        };
        Row {
            rank: 0,
            title: String::new(),
            method: String::new(),
            coordinates: vec![("a".into(), labels[0].into()), ("b".into(), labels[1].into())],
            trials: Vec::new(),
            seeds: Vec::new(),
            steps: None,
            allowed: true,
            figures: means.map(figure).into(),
            point,
        }
    }

    #[test]
    fn an_effect_is_the_mean_over_the_other_axes() {
        let rows = [
            row(0, ["1", "x"], [1.0, 0.0]),
            row(1, ["1", "y"], [3.0, 0.0]),
            row(2, ["2", "x"], [5.0, 0.0]),
            row(3, ["2", "y"], [9.0, 0.0]),
        ];
        let effects = main_effects(&rows);
        let means =
            |axis: usize| effects[axis].values.iter().map(|v| (v.value.as_str(), v.mean, v.points)).collect::<Vec<_>>();
        assert_eq!(means(0), [("1", 2.0, 2), ("2", 7.0, 2)]);
        assert_eq!(means(1), [("x", 3.0, 2), ("y", 6.0, 2)]);
    }

    #[test]
    fn the_front_has_what_nothing_beats_in_both_directions() {
        let column = |direction| Column { name: "x".into(), direction, share: false };
        let means = [[1.0, 5.0], [2.0, 4.0], [2.0, 3.0], [0.5, 6.0], [0.1, 6.0]];
        let rows: Vec<Row> = means.iter().enumerate().map(|(i, means)| row(i, ["", ""], *means)).collect();
        let (up, down) = (column(Direction::Max), column(Direction::Min));
        assert_eq!(pareto_front(&rows, (0, &up), (1, &up)), [1, 0, 3]);
        assert_eq!(pareto_front(&rows, (0, &up), (1, &down)), [2]);
    }
}
