//! The rule of asynchronous successive halving (Li et al. 2020, A System for Massively Parallel Hyperparameter Tuning,
//! algorithm 2).

use super::file::Direction;

/// Metric of a trial at every rung that it has finished. `None`: finished without the metric, which is the worst.
pub type Rungs = Vec<Option<f64>>;

/// The next promotion as (index of the trial, its new rung): a trial of the best floor(n / eta) of the n that finished a
/// rung, which did not begin the rung above. The highest rung goes first. `begun[trial]`: number of rungs it began;
/// `failed` trials are never promoted.
pub fn promotion(
    finished: &[Rungs],
    begun: &[usize],
    failed: &[bool],
    rungs: usize,
    eta: u64,
    direction: Direction,
) -> Option<(usize, usize)> {
    for rung in (0..rungs.saturating_sub(1)).rev() {
        let mut there: Vec<(usize, Option<f64>)> =
            finished.iter().enumerate().filter_map(|(trial, of)| Some((trial, *of.get(rung)?))).collect();
        there.sort_by(|a, b| rank(a.1, b.1, direction).then(a.0.cmp(&b.0)));
        let best = there.len() / eta.max(1) as usize;
        let next = there
            .iter()
            .take(best)
            .find(|(trial, value)| value.is_some() && begun[*trial] == rung + 1 && !failed[*trial]);
        if let Some((trial, _)) = next {
            return Some((*trial, rung + 1));
        }
    }
    None
}

/// The order of two values, the better one first; values that are missing or not finite come last.
pub fn rank(a: Option<f64>, b: Option<f64>, direction: Direction) -> std::cmp::Ordering {
    let finite = |value: Option<f64>| value.filter(|value| value.is_finite());
    match (finite(a), finite(b)) {
        (Some(a), Some(b)) => match direction {
            Direction::Max => b.total_cmp(&a),
            Direction::Min => a.total_cmp(&b),
        },
        (Some(_), None) => std::cmp::Ordering::Less,
        (None, Some(_)) => std::cmp::Ordering::Greater,
        (None, None) => std::cmp::Ordering::Equal,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Runs the rule one trial at a time, with one value per trial at all rungs. Returns the order of work.
    fn order(values: &[f64], rungs: usize, eta: u64) -> Vec<(usize, usize)> {
        let mut finished: Vec<Rungs> = vec![Vec::new(); values.len()];
        let mut done = Vec::new();
        loop {
            let begun: Vec<usize> = finished.iter().map(Vec::len).collect();
            let new = begun.iter().position(|rungs| *rungs == 0).map(|trial| (trial, 0));
            let next = promotion(&finished, &begun, &vec![false; values.len()], rungs, eta, Direction::Max).or(new);
            let Some((trial, rung)) = next else { return done };
            finished[trial].push(Some(values[trial]));
            done.push((trial, rung));
        }
    }

    #[test]
    fn one_of_three_is_promoted_as_soon_as_three_have_finished() {
        // Worked by hand: after three of a rung the best goes up; after six the second best, and after eight the new best.
        let expected = [
            [(0, 0), (1, 0), (2, 0), (1, 1), (3, 0), (4, 0), (5, 0)],
            [(5, 1), (6, 0), (7, 0), (7, 1), (7, 2), (8, 0), (8, 1)],
        ]
        .concat();
        assert_eq!(order(&[1.0, 5.0, 2.0, 3.0, 0.0, 6.0, 4.0, 9.0, 8.0], 3, 3), expected);
    }

    #[test]
    fn smaller_is_better_where_it_is_asked_for_and_what_has_no_number_is_never_promoted() {
        let finished = [vec![Some(3.0)], vec![Some(1.0)], vec![None]];
        let next = |direction| promotion(&finished, &[1, 1, 1], &[false; 3], 2, 3, direction);
        assert_eq!(next(Direction::Min), Some((1, 1)));
        assert_eq!(next(Direction::Max), Some((0, 1)));
        let nan = [vec![Some(f64::NAN)], vec![None], vec![None]];
        assert_eq!(promotion(&nan[1..], &[1, 1], &[false; 2], 2, 2, Direction::Max), None);
        assert_eq!(
            promotion(&finished, &[2, 1, 1], &[false; 3], 2, 3, Direction::Max),
            None,
            "the best was promoted before"
        );
        assert_eq!(promotion(&finished, &[1, 1, 1], &[true, false, false], 2, 3, Direction::Max), None);
    }
}
