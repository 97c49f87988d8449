//! From errors of pairs to figures (arXiv 2405.19534). u_ref = -0.5 beta (e_ref(w) - e_ref(l)).

use super::measure::Measured;
use crate::metrics::implicit::{AgainstFirst, Ches};
use crate::metrics::intervals::clustered_bootstrap;
use crate::metrics::wins;
use crate::report::histogram;
use anyhow::{Context, Result};

/// Largest |u_ref| of a pair that training can turn.
const TURNABLE: f64 = 2.0;

/// Logit of the reference alone for errors of winner and loser.
pub fn u_ref(beta: f64, [w, l]: [f64; 2]) -> f64 {
    -0.5 * beta * (w - l)
}

/// Implicit margin of a model over the first one: (e_ref(w) - e(w)) - (e_ref(l) - e(l)).
pub fn margin(first: [f64; 2], own: [f64; 2]) -> f64 {
    (first[0] - own[0]) - (first[1] - own[1])
}

/// 1 where the winner has the lower error, one half for equal errors.
pub fn ranks_right([w, l]: [f64; 2]) -> f64 {
    wins(l - w)
}

/// 1 where the optimum of the DPO loss ranks the pair right, for the share `q` of voters for the winner.
pub fn ideally_right(u_ref: f64, q: f64) -> f64 {
    wins(u_ref + (q / (1.0 - q)).ln())
}

/// Whether training can turn the ranking of a pair.
pub fn is_turnable(u_ref: f64) -> bool {
    u_ref.abs() < TURNABLE
}

/// Figures of a model against the first one. `prompts`: the prompt of every pair, as a number.
///
/// # Errors
/// No pair.
pub fn against_first(first: &[Measured], own: &[Measured], prompts: &[usize]) -> Result<AgainstFirst> {
    let pairs = || first.iter().zip(own).map(|(first, own)| (first.errors, own.errors));
    let margins: Vec<f64> = pairs().map(|(first, own)| margin(first, own)).collect();
    let right: Vec<f64> = margins.iter().map(|h| wins(*h)).collect();
    let interval = |values: &[f64]| clustered_bootstrap(values, prompts).context("there is no pair");
    let wrong = |errors: [f64; 2]| ranks_right(errors) < 0.5;
    Ok(AgainstFirst {
        implicit_accuracy: interval(&right)?,
        margin: interval(&margins)?,
        wrong_by_first: pairs().filter(|(first, _)| wrong(*first)).count() as u64,
        flipped: pairs().filter(|(first, own)| wrong(*first) && ranks_right(*own) > 0.5).count() as u64,
    })
}

/// Summary of one CHES of every pair.
///
/// # Errors
/// No pair.
pub fn ches_of(values: &[f64], prompts: &[usize]) -> Result<Ches> {
    let positive: Vec<f64> = values.iter().map(|value| f64::from(*value > 0.0)).collect();
    let positive = clustered_bootstrap(&positive, prompts).context("there is no pair")?;
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    let at = |share: f64| sorted[((sorted.len() - 1) as f64 * share).round() as usize];
    Ok(Ches {
        positive,
        from: at(0.0),
        to: at(1.0),
        deciles: [at(0.1), at(0.5), at(0.9)],
        histogram: histogram(values, at(0.0), at(1.0)),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::numbers::mean;

    const BETA: f64 = 5000.0;
    /// Errors of winner and loser by the model and by the reference: cases A, B and C.
    const CASES: [([f64; 2], [f64; 2]); 3] = [
        ([0.1000, 0.1210], [0.1004, 0.1206]),
        ([0.1003, 0.0998], [0.1000, 0.0996]),
        ([0.1000, 0.1200], [0.1006, 0.1202]),
    ];

    fn measured(errors: [f64; 2]) -> Measured {
        Measured { errors, ches_output: 0.0, ches_last_layer: 0.0 }
    }

    #[test]
    fn ranking_accuracies_are_those_of_the_fixture() {
        let u: Vec<f64> = CASES.iter().map(|(_, reference)| u_ref(BETA, *reference)).collect();
        for (found, expected) in u.iter().zip([50.5, -1.0, 49.0]) {
            assert!((found - expected).abs() < 1e-6, "{u:?}");
        }
        let share = |of: &dyn Fn(usize) -> f64| mean((0..CASES.len()).map(of)).unwrap();
        assert!((share(&|i| ranks_right(CASES[i].1)) - 0.666667).abs() < 1e-6);
        assert!((share(&|i| ranks_right(CASES[i].0)) - 0.666667).abs() < 1e-6);
        assert_eq!(share(&|i| ideally_right(u[i], 0.75)), 1.0);
        assert_eq!(u.iter().map(|u| is_turnable(*u)).collect::<Vec<_>>(), [false, true, false]);
    }

    #[test]
    fn a_pair_ranks_right_below_the_loss_of_the_fixture() {
        // Pair B: its loss is 0.825939, and it ranks right below ln(1 + e^{u_ref}).
        let (own, reference) = CASES[1];
        let u_ref = u_ref(BETA, reference);
        assert!(((1.0 + u_ref.exp()).ln() - 0.313262).abs() < 1e-6);
        let u = 0.5 * BETA * margin(reference, own);
        assert!(((1.0 + (-u).exp()).ln() - 0.825939).abs() < 1e-6);
        assert!(ranks_right(own) < 0.5 && u <= -u_ref);
    }

    #[test]
    fn a_model_is_compared_with_the_first_one_pair_by_pair() {
        let first: Vec<Measured> = CASES.iter().map(|case| measured(case.1)).collect();
        let mut own: Vec<Measured> = CASES.iter().map(|case| measured(case.0)).collect();
        let found = against_first(&first, &own, &[0, 1, 2]).unwrap();
        // u of the cases: 2, -.25, 1
        assert!((found.implicit_accuracy.mean - 2.0 / 3.0).abs() < 1e-12);
        assert!((found.margin.mean - (2.0 - 0.25 + 1.0) / 3.0 / (0.5 * BETA)).abs() < 1e-12);
        assert_eq!((found.wrong_by_first, found.flipped), (1, 0));
        own[1].errors = [0.0995, 0.0999];
        assert_eq!(against_first(&first, &own, &[0, 1, 2]).unwrap().flipped, 1);
    }

    #[test]
    fn ches_has_its_share_above_zero_and_its_deciles() {
        let values: Vec<f64> = (0..11).map(|i| f64::from(i) - 2.0).collect();
        let found = ches_of(&values, &[0; 11]).unwrap();
        assert_eq!((found.positive.mean, found.from, found.to), (8.0 / 11.0, -2.0, 8.0));
        assert_eq!(found.deciles, [-1.0, 3.0, 7.0]);
        assert!(ches_of(&[], &[]).is_err());
    }
}
