//! Derivatives against central differences in float64, with what is detached held fixed.

use super::*;

const STEP_SIZE: f64 = 1e-7;

/// Keys that change the form of a loss.
const FORMS: [(&str, &str); 8] = [
    ("aot", "label_noise = 0.2\nbins = 2"),
    ("aot_unpaired", "items = \"labels\""),
    ("relative_po", "weights = \"inside\""),
    ("relative_po", "form = \"diagonal\""),
    ("relative_po", "form = \"unpaired\""),
    ("pmpo", "a = 0.0\nb = 2.0"),
    ("uapo", "items = \"labels\""),
    ("kto", "utility = \"loss_averse\""),
];

/// A batch that suits every method of its kind, away from kinks and clamps.
fn batch(needs: &Needs) -> Errors {
    let mut errors = match needs.items {
        ItemKind::Pairs => pairs_of(&[CASE_A, CASE_B]),
        ItemKind::Lists => list_of(&[0.9, 0.6, 0.2], &[1.3e-4, 5.7e-4, -2.1e-4]),
        ItemKind::Labels => labels_of(CASE_B),
    };
    for (i, item) in errors.items.iter_mut().enumerate() {
        item.scores = Some(vec![0.8, 0.3 + 0.1 * i as f64]);
    }
    if let (Preference::Pair { .. }, true) = (&errors.items[0].preference, needs.ties) {
        errors.items[1].preference = Preference::Pair { tie: true };
    }
    let rows = errors.theta.size()[0];
    let ramp = Tensor::arange(rows, (tch::Kind::Double, tch::Device::Cpu)) * 0.1;
    errors.epsilon_factor = &ramp + 0.3;
    errors.lambda = ramp + 1.0;
    if needs.prompts {
        errors.prompts = Some(Tensor::from_slice(&[1.0, 0.2, 0.7, 0.5]).view([2, 2]));
    }
    if needs.drift {
        errors.drift =
            Some(Drift { square: Tensor::from_slice(&[0.15, 0.21]), pull: Tensor::from_slice(&[-0.02, 0.03]) });
    }
    errors
}

fn total(objective: &Objective, errors: &Errors, step: &Step, weights: Option<&[f64]>) -> f64 {
    let e = evaluate(objective, errors, step, Weighting::Off).unwrap();
    // Weights are detached: they keep the values of the point while it is moved.
    match (weights, objective) {
        (Some(w), Objective::Lists(method)) => {
            let list = &List::all_of(errors, step.beta)[0];
            numbers(&method.terms(list, step).unwrap().losses).iter().zip(w).map(|(l, w)| l * w).sum()
        }
        (Some(w), _) => e.losses.iter().zip(w).map(|(l, w)| l.unweighted * w).sum(),
        (None, _) => e.losses.iter().map(|l| l.loss).sum(),
    }
}

fn moved(values: &Tensor, i: i64, by: f64) -> Tensor {
    let out = values.copy();
    let _ = out.get(i).fill_(out.double_value(&[i]) + by);
    out
}

/// The other methods train on their own samples.
fn trains_on_errors(needs: &Needs) -> bool {
    needs.rollouts.is_none() && needs.truncated.is_none()
}

#[test]
fn derivatives_equal_finite_differences() {
    let range = |entry: &Entry| match entry.keys.iter().any(|k| k.name == "score_range") {
        true => "score_range = [0.0, 1.0]",
        false => "",
    };
    let plain = REGISTRY.iter().map(|entry| (entry.name, range(entry)));
    for (name, own) in plain.chain(FORMS) {
        let entry = find(name).unwrap();
        let needs = entry.method(&own.parse().unwrap(), None).unwrap().needs;
        if !trains_on_errors(&needs) {
            continue;
        }
        let objective = built(entry.name, own);
        let (errors, beta) = (batch(&needs), if entry.name == "dspo_score" { 20.0 } else { 900.0 });
        let step = Step { beta, statistic: 3e-4, ..STEP };
        let weights = weight_values(&objective, &errors, &step);
        let weights = (!weights.is_empty()).then_some(weights.as_slice());
        let e = evaluate(&objective, &errors, &step, AS_PUBLISHED).unwrap();
        let check = |what: &str, found: f64, at: &dyn Fn(f64) -> Errors| {
            let loss = |by: f64| total(&objective, &at(by), &step, weights);
            let expected = (loss(STEP_SIZE) - loss(-STEP_SIZE)) / (2.0 * STEP_SIZE);
            let tolerance = 1e-5 * expected.abs().max(1.0);
            assert!((found - expected).abs() < tolerance, "{} {what}: {found} is not {expected}", entry.name);
        };
        for i in 0..errors.theta.size()[0] {
            let at = |by: f64| Errors { theta: moved(&errors.theta, i, by), ..errors.as_leaves() };
            check(&format!("theta {i}"), e.d_theta.double_value(&[i]), &at);
        }
        let Some((drift, d)) = errors.drift.as_ref().zip(e.d_drift.as_ref()) else { continue };
        for i in 0..2 {
            let square = |by: f64| {
                let drift = Drift { square: moved(&drift.square, i, by), pull: drift.pull.shallow_clone() };
                Errors { drift: Some(drift), ..errors.as_leaves() }
            };
            check("drift square", d.square.double_value(&[i]), &square);
            let pull = |by: f64| {
                let drift = Drift { square: drift.square.shallow_clone(), pull: moved(&drift.pull, i, by) };
                Errors { drift: Some(drift), ..errors.as_leaves() }
            };
            check("drift pull", d.pull.double_value(&[i]), &pull);
        }
    }
}

#[test]
fn the_sum_over_micro_batches_is_that_of_the_whole() {
    for name in ["dpo", "nca", "mapo", "ipo"] {
        let objective = built(name, "");
        let whole = evaluate(&objective, &pairs_of(&[CASE_A, CASE_B]), &STEP, AS_PUBLISHED).unwrap();
        let parts = [CASE_A, CASE_B].map(|c| evaluate(&objective, &pairs_of(&[c]), &STEP, AS_PUBLISHED).unwrap());
        for (i, part) in parts.iter().enumerate() {
            assert_eq!(whole.losses[i].loss, part.losses[0].loss, "{name}");
            assert_eq!(whole.d_theta.double_value(&[i as i64]), part.d_theta.double_value(&[0]), "{name}");
        }
    }
}
