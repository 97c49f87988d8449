//! Losses of whole steps, of one class, and with a learned anchor: fixtures computed in numpy, float64, beta 5000.

use super::*;

const ABC: [Case; 3] = [CASE_A, CASE_B, CASE_C];

fn mean_loss(e: &Evaluation) -> f64 {
    e.losses.iter().map(|l| l.loss).sum::<f64>() / e.losses.len() as f64
}

fn loss(name: &str, own: &str, errors: &Errors) -> f64 {
    mean_loss(&evaluate(&built(name, own), errors, &STEP, AS_PUBLISHED).unwrap())
}

/// Images with these implicit rewards, in units of 0.5 beta h.
fn rewards_of(desirable: &[f64], undesirable: &[f64]) -> Errors {
    let all: Vec<f64> = desirable.iter().chain(undesirable).map(|z| 0.1 - z / 2500.0).collect();
    let theta = Tensor::from_slice(&all);
    let label = |i: usize| item(vec![i as i64], Preference::Label { desirable: i < desirable.len() });
    Errors {
        items: (0..all.len()).map(label).collect(),
        reference: Some(theta.full_like(0.1)),
        lambda: theta.ones_like(),
        epsilon_factor: theta.ones_like(),
        theta,
        ..pairs_of(&[CASE_A])
    }
}

#[test]
fn aot_equals_the_fixtures() {
    let e = evaluate(&built("aot", ""), &pairs_of(&ABC), &STEP, AS_PUBLISHED).unwrap();
    close("aot", mean_loss(&e), 0.422043, 6);
    for (i, dw) in [99.335768, 468.480417, 224.117851].into_iter().enumerate() {
        close("dw", e.d_theta.double_value(&[i as i64]) / 3.0, dw, 6);
        close("dl", e.d_theta.double_value(&[i as i64 + 3]) / 3.0, -dw, 6);
    }
    // a (1, 3), b (2.5, 0.5)
    let crossed = pairs_of(&[[0.1, 0.1004, 0.1, 0.1010], [0.1, 0.1012, 0.1, 0.1002]]);
    close("aot", loss("aot", "", &crossed), 0.474077, 6);
    close("dpo", loss("dpo", "", &crossed), 0.890152, 6);
    // One pair alone is dpo, and cdpo with label noise.
    close("one pair", loss("aot", "", &pairs_of(&[CASE_B])), 0.825939, 6);
    close("label noise", loss("aot", "label_noise = 0.1", &pairs_of(&[CASE_B])), 0.800939, 6);
}

#[test]
fn pairs_are_sorted_within_their_part_of_the_noise_levels() {
    let mut crossed = pairs_of(&[[0.1, 0.1004, 0.1, 0.1010], [0.1, 0.1012, 0.1, 0.1002]]);
    crossed.items[1].level = 999.0;
    close("one part", loss("aot", "", &crossed), 0.474077, 6);
    close("five parts", loss("aot", "bins = 5", &crossed), loss("dpo", "", &crossed), 12);
}

#[test]
fn aot_unpaired_equals_the_fixtures_on_pairs_and_on_labelled_images() {
    let losses = evaluate(&built("aot_unpaired", ""), &pairs_of(&ABC), &STEP, AS_PUBLISHED).unwrap();
    close("pairs", mean_loss(&losses), 0.363538, 6);
    // Winners z (1, -0.75, 1.5) are sorted into the places of u 1.5, 0.25, 1.
    for (loss, u) in losses.losses.iter().zip([1.5f64, 0.25, 1.0]) {
        close("place", loss.loss, (1.0 + (-u).exp()).ln(), 9);
    }
    let labels = "items = \"labels\"";
    let same = rewards_of(&[1.0, -0.75, 1.5], &[-1.0, -0.5, 0.5]);
    close("labels", loss("aot_unpaired", labels, &same), 0.363538, 6);
}

/// Desirable (0.5, 2, 1), undesirable (0.25, -1): the shorter column is read as -1, -0.375, 0.25.
#[test]
fn the_shorter_column_is_read_by_its_quantile_function_and_has_no_losses_of_its_own() {
    let uneven = rewards_of(&[0.5, 2.0, 1.0], &[0.25, -1.0]);
    let e = evaluate(&built("aot_unpaired", "items = \"labels\""), &uneven, &STEP, AS_PUBLISHED).unwrap();
    assert_eq!(e.losses.iter().map(|l| l.item).collect::<Vec<_>>(), [0, 1, 2]);
    let of_u = |u: f64| (1.0 + (-u).exp()).ln();
    for (loss, u) in e.losses.iter().zip([1.5, 1.75, 1.375]) {
        close("place", loss.loss, of_u(u), 9);
    }
    assert!((0..5).all(|i| e.d_theta.double_value(&[i]) != 0.0), "every image has a gradient");
    // A step of one class has no loss.
    let one = rewards_of(&[0.5, 2.0], &[]);
    assert!(
        evaluate(&built("aot_unpaired", "items = \"labels\""), &one, &STEP, AS_PUBLISHED).unwrap().losses.is_empty()
    );
}

#[test]
fn relative_po_equals_the_fixtures() {
    let mut errors = pairs_of(&ABC);
    errors.prompts = Some(Tensor::from_slice(&[1.0, 0.0, 0.8, 0.6, 0.0, 1.0]).view([3, 2]));
    let e = evaluate(&built("relative_po", "weights = \"inside\""), &errors, &STEP, AS_PUBLISHED).unwrap();
    for (found, row) in e.losses.iter().zip([0.471004, 0.747548, 0.489316]) {
        close("row", found.loss, row, 6);
    }
    close("inside", mean_loss(&e), 0.569289, 6);
    close("outside", loss("relative_po", "", &errors), 0.437062, 6);
    close("diagonal", loss("relative_po", "form = \"diagonal\"", &errors), 0.436274, 6);
    // The same rewards as labelled images.
    let mut labels = rewards_of(&[1.0, -0.75, 1.5], &[-1.0, -0.5, 0.5]);
    let prompts = errors.prompts.as_ref().unwrap();
    labels.prompts = Some(Tensor::cat(&[prompts, prompts], 0));
    close("unpaired", loss("relative_po", "form = \"unpaired\"", &labels), 0.437062, 6);
}

#[test]
fn relative_po_compares_within_blocks_only() {
    let mut errors = pairs_of(&ABC);
    errors.prompts = Some(Tensor::from_slice(&[1.0, 0.0, 0.8, 0.6, 0.0, 1.0]).view([3, 2]));
    for (i, item) in errors.items.iter_mut().enumerate() {
        item.block = i as u64;
    }
    for own in ["", "weights = \"inside\"", "form = \"diagonal\""] {
        close(own, loss("relative_po", own, &errors), loss("dpo", "", &errors), 12);
    }
}

#[test]
fn uapo_equals_the_fixtures_and_its_anchor_has_the_derivative_of_the_loss() {
    let uapo = built("uapo", "");
    let at =
        |d: f64| evaluate(&uapo, &pairs_of(&[CASE_A, CASE_B]), &Step { statistic: d, ..STEP }, AS_PUBLISHED).unwrap();
    close("A", at(0.2).losses[0].loss, 0.634383, 6);
    close("B", at(0.2).losses[1].loss, 1.680142, 6);
    let labels = labels_of(CASE_A);
    let single = built("uapo", "items = \"labels\"");
    let of_labels = |d: f64| evaluate(&single, &labels, &Step { statistic: d, ..STEP }, AS_PUBLISHED).unwrap();
    close("labels", of_labels(0.2).losses.iter().map(|l| l.loss).sum(), 0.634383, 6);
    let step = Step { statistic: 0.2, ..STEP };
    let pairs = statistic_values(&uapo, &pairs_of(&[CASE_A, CASE_B]), &step);
    let images = statistic_values(&single, &labels, &step);
    for i in 0..2 {
        let slope =
            |f: &dyn Fn(f64) -> Evaluation| (f(0.2 + 1e-6).losses[i].loss - f(0.2 - 1e-6).losses[i].loss) / 2e-6;
        close("pair", pairs[i], slope(&at), 7);
        close("image", images[i], slope(&of_labels), 7);
    }
}

const TARGET: [f64; 4] = [0.3, -0.6, 0.2, 1.0];
const REFERENCE: [f64; 4] = [0.5, -0.4, 0.1, 0.7];

/// Losses and drift of predictions `[k, 4]` for one target and one reference prediction.
fn predicted(p: &Tensor, desirable: &[bool]) -> (Tensor, Drift, Errors) {
    let (t, r) = (Tensor::from_slice(&TARGET), Tensor::from_slice(&REFERENCE));
    let mean = |x: &Tensor| x.mean_dim(1, false, None);
    let (residual, d) = (p - &t, p - &r);
    let (theta, drift) = (mean(&residual.square()), Drift { square: mean(&d.square()), pull: mean(&(&residual * &d)) });
    let label = |(i, good): (usize, &bool)| item(vec![i as i64], Preference::Label { desirable: *good });
    let errors = Errors {
        items: desirable.iter().enumerate().map(label).collect(),
        theta: theta.detach(),
        reference: Some(theta.detach().zeros_like()),
        drift: Some(Drift { square: drift.square.detach(), pull: drift.pull.detach() }),
        epsilon_factor: theta.detach().ones_like(),
        lambda: theta.detach().ones_like(),
        ..pairs_of(&[CASE_A])
    };
    (theta, drift, errors)
}

/// Mean squares of docs/methods.md 21.7: winner desirable, loser undesirable, summed.
#[test]
fn pmpo_equals_the_fixtures() {
    let mut errors = labels_of([0.0375, 0.0975, 0.031875, 0.086475]);
    errors.drift =
        Some(Drift { square: Tensor::from_slice(&[0.004375, 0.001975]), pull: Tensor::from_slice(&[0.0, 0.0]) });
    for (own, sum) in [("a = 0.5\nb = 0.5", -0.01341250), ("a = 0.0\nb = 2.0", -0.04240000)] {
        let e = evaluate(&built("pmpo", own), &errors, &STEP, AS_PUBLISHED).unwrap();
        close(own, e.losses.iter().map(|l| l.loss).sum(), sum, 8);
    }
}

#[test]
fn pmpo_is_least_where_its_formula_says() {
    let (a, b) = (0.25, 2.0);
    let pmpo = built("pmpo", "a = 0.25\nb = 2.0");
    let mut p = Tensor::zeros([2, 4], (tch::Kind::Double, tch::Device::Cpu));
    for _ in 0..200 {
        let leaf = p.detach().set_requires_grad(true);
        let (theta, drift, errors) = predicted(&leaf, &[true, false]);
        let e = evaluate(&pmpo, &errors, &STEP, AS_PUBLISHED).unwrap();
        let root = (theta * &e.d_theta + drift.square * e.d_drift.unwrap().square).sum(tch::Kind::Double);
        root.backward();
        p = leaf.detach() - leaf.grad();
    }
    for i in 0..4 {
        let (t, r) = (TARGET[i], REFERENCE[i]);
        close("desirable", p.double_value(&[0, i as i64]), (a * t + b * r) / (a + b), 6);
        close("undesirable", p.double_value(&[1, i as i64]), (b * r - (1.0 - a) * t) / (b - (1.0 - a)), 6);
    }
}

#[test]
fn undesirable_images_require_a_bounded_loss() {
    let requires =
        |own: &str| find("pmpo").unwrap().method(&own.parse().unwrap(), None).unwrap().needs.undesirable_requires;
    assert_eq!(requires(""), None);
    assert_eq!(requires("a = 0.5\nb = 0.5"), Some("method.b above 1 - method.a"));
    assert_eq!(requires("a = 0.0\nb = 1.5"), None);
}

/// A trainer with accumulation evaluates the micro-batches of a step as one batch, then each with its part.
#[test]
fn the_parts_of_a_whole_step_are_those_of_one_batch() {
    let cases = [CASE_A, CASE_B, CASE_C, [0.1, 0.11, 0.1001, 0.1103]];
    for (name, own) in [("aot", ""), ("aot_unpaired", ""), ("relative_po", "form = \"diagonal\""), ("dspo_sq", "")] {
        let objective = built(name, own);
        let drift = |i: usize, n: usize| {
            let values: Vec<f64> = (i..i + n).map(|i| 0.01 + 0.2 * i as f64).collect();
            Some(Drift { square: Tensor::from_slice(&values), pull: Tensor::from_slice(&values) })
        };
        let batch = |i: usize, n: usize| Errors { drift: drift(i, n), ..pairs_of(&cases[i..i + n]) };
        let whole = evaluate(&objective, &batch(0, 4), &STEP, AS_PUBLISHED).unwrap();
        let parts = evaluate_together(&objective, &[batch(0, 1), batch(1, 3)], &STEP, AS_PUBLISHED).unwrap();
        let sizes: Vec<usize> = parts.iter().map(|part| part.losses.len()).collect();
        assert_eq!(sizes, [1, 3], "{name}");
        for (i, (part, k)) in [(0, 0), (1, 0), (1, 1), (1, 2)].into_iter().enumerate() {
            let (own, n) = (&parts[part], [1, 3][part]);
            assert_eq!(own.losses[k].loss, whole.losses[i].loss, "{name} {i}");
            assert_eq!(own.losses[k].item, k, "{name} {i}");
            assert_eq!(own.compared[k], whole.compared[i], "{name} {i}");
            let d = |e: &Evaluation, i: usize| e.d_theta.double_value(&[i as i64]);
            assert_eq!((d(own, k), d(own, k + n)), (d(&whole, i), d(&whole, i + 4)), "{name} {i}");
            let square = |e: &Evaluation, i: usize| e.d_drift.as_ref().unwrap().square.double_value(&[i as i64]);
            assert_eq!(square(own, k), square(&whole, i), "{name} {i}");
        }
    }
}
