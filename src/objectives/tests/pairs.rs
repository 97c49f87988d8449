//! docs/methods.md 21.6: losses of pairs and their derivatives, beta 5000, as published.

use super::*;

/// Loss, dL/de_theta(w), dL/de_theta(l).
type Row = [f64; 3];

fn check(name: &str, own: &str, change: impl Fn(&mut Errors, &mut Step), rows: [Row; 2]) {
    for (case, row) in [CASE_A, CASE_B].into_iter().zip(rows) {
        let (mut errors, mut step) = (pairs_of(&[case]), STEP);
        if find(name).unwrap().needs().swapped {
            errors = pairs_of(&[[case[1], case[0], case[3], case[2]]]);
        }
        change(&mut errors, &mut step);
        let e = evaluate(&built(name, own), &errors, &step, AS_PUBLISHED).unwrap();
        close(name, e.losses[0].loss, row[0], 6);
        let (mut dw, mut dl) = (e.d_theta.double_value(&[0]), e.d_theta.double_value(&[1]));
        if find(name).unwrap().needs().swapped {
            (dw, dl) = (dl, dw);
        }
        close(name, dw, row[1], 3);
        close(name, dl, row[2], 3);
    }
}

fn plain(name: &str, own: &str, rows: [Row; 2]) {
    check(name, own, |_, _| {}, rows);
}

#[test]
fn losses_of_u_alone_equal_the_fixtures() {
    plain("sft", "", [[0.100000, 1.000, 0.000], [0.100300, 1.000, 0.000]]);
    plain("dpo", "", [[0.126928, 298.007, -298.007], [0.825939, 1405.441, -1405.441]]);
    plain("npo", "", [[2.126928, -2201.993, 2201.993], [0.575939, -1094.559, 1094.559]]);
    plain("hinge", "", [[0.0, 0.0, 0.0], [1.25, 2500.0, -2500.0]]);
    plain("ipo", "", [[2.25, -7500.0, 7500.0], [0.5625, 3750.0, -3750.0]]);
    plain("cdpo", "", [[0.326928, 48.007, -48.007], [0.800939, 1155.441, -1155.441]]);
    plain("rdpo", "", [[-0.123072, 610.507, -610.507], [0.857189, 1717.941, -1717.941]]);
    plain("dmpo", "", [[0.192468, 681.177, -681.177], [1.907923, 2981.373, -2981.373]]);
    plain("discopop", "", [[0.135335, 338.338, -338.338], [0.829005, 1265.250, -1265.250]]);
    plain("hypo", "", [[0.126928, 298.007, -298.007], [1.501929, 1943.250, -1943.250]]);
    plain("focalpo", "", [[0.126125, 296.122, -296.122], [0.792525, 1348.583, -1348.583]]);
    assert!(std::ptr::eq(find("exo").unwrap(), find("dmpo").unwrap()));
}

#[test]
fn losses_of_z_and_y_equal_the_fixtures() {
    plain("dpo_shift", "", [[0.160224, 370.118, -277.588], [0.898123, 1481.666, -1111.250]]);
    plain("rpo", "", [[1.376928, 310.507, -298.007], [2.079689, 1417.941, -1405.441]]);
    plain("nca", "", [[1.126523, -241.470, -336.177], [1.567345, 1296.920, -471.926]]);
    plain("sppo_hard", "", [[0.5, -2500.0, 2500.0], [1.5625, 6250.0, 0.0]]);
    plain("apo_zero", "", [[0.537883, 491.530, -491.530], [1.056719, 544.737, -587.509]]);
    plain("apo_down", "", [[0.850262, -229.046, -262.484], [0.882998, 70.598, -615.335]]);
    plain("mapo", "", [[0.100576, 1.141, -0.141], [0.175949, 14.045, -13.047]]);
    plain("bco", "", [[0.626523, 672.354, -672.354], [1.610948, 1697.947, -943.852]]);
    let threshold = |_: &mut Errors, step: &mut Step| step.statistic = -0.3125;
    check("bco", "", threshold, [[0.645696, 530.172, -836.474], [1.539420, 1519.158, -1133.155]]);
}

#[test]
fn losses_of_scores_equal_the_fixtures() {
    let scored = |w: f64, l: f64| move |errors: &mut Errors, _: &mut Step| errors.items[0].scores = Some(vec![w, l]);
    let smpo = "score_range = [0.11543526500463486, 0.28201571106910706]";
    check("smpo", smpo, scored(0.215, 0.190), [[0.201785, 342.152, -342.152], [0.791146, 1023.626, -1023.626]]);
    let identity = "transform = \"identity\"\ngap_scale = 1.0";
    check("odpo", identity, scored(0.3, 0.0), [[0.167786, 386.163, -386.163], [1.005492, 1585.339, -1585.339]]);
    check("odpo", "gap_scale = 1.0", scored(0.3, 0.0), [[0.039798, 97.541, -97.541], [0.325850, 695.216, -695.216]]);
    check("cream", "", scored(0.9, 0.1), [[0.326928, 48.007, -48.007], [0.800939, 1155.441, -1155.441]]);
    check("cream", "", scored(0.25, 0.75), [[1.626928, -1576.993, 1576.993], [0.638439, -469.559, 469.559]]);
    let unit = "score_range = [0.0, 1.0]";
    check("mappo", unit, scored(0.5, 0.2), [[0.241008, 535.413, -160.624], [1.037488, 1614.141, -484.242]]);
}

/// docs/methods.md 21.7
#[test]
fn the_multiplier_of_smpo_follows_the_gap_of_the_scores() {
    let own = "score_range = [0.11543526500463486, 0.28201571106910706]";
    let Objective::Pairs(smpo) = built("smpo", own) else { panic!("smpo is a loss of pairs") };
    let multiplier = |w: f64, l: f64| {
        let mut errors = pairs_of(&[CASE_A]);
        errors.items[0].scores = Some(vec![w, l]);
        smpo.multiplier(&Pairs::of(&errors, 5000.0)).unwrap().double_value(&[0])
    };
    close("gap .025", multiplier(0.215, 0.190), 0.748983, 6);
    close("gap .01", multiplier(0.21, 0.20), 0.300065, 6);
    close("gap .05", multiplier(0.25, 0.20), 1.489610, 6);
    close("whole range", multiplier(0.28201571106910706, 0.11543526500463486), 4.621172, 6);
    close("gap .033428", multiplier(0.233428, 0.2), 1.0, 4);
}

#[test]
fn ties_and_weights_equal_the_fixtures() {
    plain("todo", "", [[0.201413, 456.064, -456.064], [1.136871, 1697.947, -1697.947]]);
    let tie = |errors: &mut Errors, _: &mut Step| errors.items[0].preference = Preference::Pair { tie: true };
    check("todo", "", tie, [[2.238978, -1854.291, 1854.291], [1.421486, 292.505, -292.505]]);
    let mean = |_: &mut Errors, step: &mut Step| step.statistic = 0.2103;
    check("wpo", "", mean, [[0.114048, 267.767, -267.767], [0.825939, 1405.441, -1405.441]]);
    let videodpo = |errors: &mut Errors, _: &mut Step| errors.items[0].weight = Some(0.72 / 0.36);
    check("dpo", "", videodpo, [[0.253856, 596.015, -596.015], [1.651879, 2810.883, -2810.883]]);
}

#[test]
fn lambda_of_t_multiplies_the_logit() {
    let at_750 = |errors: &mut Errors, _: &mut Step| errors.lambda = errors.theta.full_like(1.279045);
    check("dpo", "", at_750, [[0.074600, 229.860, -229.860], [0.865755, 1852.268, -1852.268]]);
}

#[test]
fn wpo_takes_its_mean_and_weights_over_the_whole_first_step() {
    let errors = pairs_of(&[CASE_A, CASE_B]);
    let wpo = built("wpo", "");
    let m = statistics::Running::default().of_step(statistics::Law::Before, &statistic_values(&wpo, &errors, &STEP));
    close("m", m, 0.2103, 6);
    let step = Step { statistic: m, ..STEP };
    let weights = weight_values(&wpo, &errors, &step);
    close("first weight", weights[0], 0.898526, 6);
    close("second weight", weights[1], 1.0, 6);
    let mean = weights.iter().sum::<f64>() / 2.0;
    let loss = |weighting| {
        let e = evaluate(&wpo, &errors, &step, weighting).unwrap();
        e.losses.iter().map(|l| l.loss).sum::<f64>() / 2.0
    };
    close("as published", loss(AS_PUBLISHED), 0.469994, 6);
    close("normalised", loss(Weighting::Divided(mean)), 0.495114, 6);
}

/// The two images are one batch; KL is 0 in A and B.
#[test]
fn kto_equals_the_fixtures() {
    let kto = built("kto", "");
    let rows = [
        (CASE_A, 0.0, 0.119203, 262.484, -262.484),
        (CASE_B, 0.0, 0.543258, 372.866, -491.530),
        (CASE_C, 4e-4, 0.268941, 491.530, -491.530),
    ];
    for (case, kl, loss, dw, dl) in rows {
        let errors = labels_of(case);
        let values = statistic_values(&kto, &errors, &STEP);
        let mean = statistics::Running::default().of_step(statistics::Law::Step, &values);
        close("KL", mean.max(0.0), kl, 6);
        let e = evaluate(&kto, &errors, &Step { statistic: mean, ..STEP }, AS_PUBLISHED).unwrap();
        close("loss", e.losses.iter().map(|l| l.loss).sum::<f64>() / 2.0, loss, 6);
        close("dw", e.d_theta.double_value(&[0]) / 2.0, dw, 3);
        close("dl", e.d_theta.double_value(&[1]) / 2.0, dl, 3);
    }
}

/// lambda(t) multiplies g before its KL is taken.
#[test]
fn lambda_of_t_multiplies_the_gain_of_kto_and_its_mean() {
    let mut errors = labels_of([0.1000, 0.1000, 0.1004, 0.0999]);
    errors.lambda = Tensor::from_slice(&[1.05, 1.8]);
    let kto = built("kto", "");
    let values = statistic_values(&kto, &errors, &STEP);
    close("first", values[0], 4.2e-4, 9);
    close("second", values[1], -1.8e-4, 9);
    let e = evaluate(&kto, &errors, &Step { statistic: 1.2e-4, ..STEP }, AS_PUBLISHED).unwrap();
    // v = 5000 (4.2e-4 - 1.2e-4) = 1.5 and -5000 (-1.8e-4 - 1.2e-4) = 1.5
    for loss in &e.losses {
        close("loss", loss.loss, 1.0 - 1.0 / (1.0 + (-1.5f64).exp()), 9);
    }
}

#[test]
fn the_other_utilities_of_kto_are_concave_and_convex_in_the_gain() {
    let loss = |utility: &str| {
        let kto = built("kto", &format!("utility = \"{utility}\""));
        let e = evaluate(&kto, &labels_of(CASE_A), &STEP, AS_PUBLISHED).unwrap();
        e.losses[0].loss
    };
    // v = beta g = 2 for the desirable image of case A
    close("sigmoid", loss("sigmoid"), 1.0 - 1.0 / (1.0 + (-2f64).exp()), 9);
    close("loss averse", loss("loss_averse"), 1.0 + (1.0 + (-2f64).exp()).ln(), 9);
    close("risk seeking", loss("risk_seeking"), 1.0 - (1.0 + 2f64.exp()).ln(), 9);
}

#[test]
fn the_shift_of_dpo_shift_moves_with_the_steps() {
    let fixed = evaluate(&built("dpo_shift", "lam = 0.95"), &pairs_of(&[CASE_A]), &STEP, AS_PUBLISHED).unwrap();
    let ramp = built("dpo_shift", "lam = 0.5\nlam_end = 1.0");
    let step = Step { number: 9, ..STEP };
    let moved = evaluate(&ramp, &pairs_of(&[CASE_A]), &step, AS_PUBLISHED).unwrap();
    assert!((fixed.losses[0].loss - moved.losses[0].loss).abs() < 1e-12);
}

/// An exchange of the compared values, of weights, or of the batch mean and the logarithm would fail here.
#[test]
fn the_loss_of_a_batch_is_the_mean_of_the_losses_of_its_pairs() {
    let dpo = built("dpo", "");
    let both = evaluate(&dpo, &pairs_of(&[CASE_A, CASE_B]), &STEP, AS_PUBLISHED).unwrap();
    let losses: Vec<f64> = both.losses.iter().map(|l| l.loss).collect();
    close("A", losses[0], 0.126928, 6);
    close("B", losses[1], 0.825939, 6);
    // The mean inside log sigma would give -log sigma((2 - 0.25) / 2).
    let inside = (1.0 + (-0.875f64).exp()).ln();
    assert!(((losses[0] + losses[1]) / 2.0 - inside).abs() > 0.1);
}

#[test]
fn v_models_have_the_margins_of_epsilon_models_where_abar_scales_their_errors() {
    let abar = 0.27633268;
    let dpo = built("dpo", "");
    let epsilon = evaluate(&dpo, &pairs_of(&[CASE_A]), &STEP, AS_PUBLISHED).unwrap();
    let mut errors = pairs_of(&[CASE_A.map(|e| e / abar)]);
    errors.epsilon_factor = errors.theta.full_like(abar);
    let v = evaluate(&dpo, &errors, &STEP, AS_PUBLISHED).unwrap();
    assert!((epsilon.losses[0].loss - v.losses[0].loss).abs() < 1e-12);
    let (d_epsilon, d_v) = (epsilon.d_theta.double_value(&[0]), v.d_theta.double_value(&[0]));
    assert!((d_epsilon * abar - d_v).abs() < 1e-9);
    // Only sft keeps the network's own space.
    let sft = evaluate(&built("sft", ""), &errors, &STEP, AS_PUBLISHED).unwrap();
    assert!((sft.losses[0].loss - CASE_A[0] / abar).abs() < 1e-12);
}

#[test]
fn the_logit_is_zero_where_the_policy_is_the_reference() {
    for entry in
        REGISTRY.iter().filter(|e| e.needs().items == ItemKind::Pairs && e.needs().loser && e.needs().reference)
    {
        if entry.name == "hypo" {
            continue; // by its definition: differences of content enter at full beta
        }
        let own = if entry.keys.iter().any(|k| k.name == "score_range") { "score_range = [0.0, 1.0]" } else { "" };
        let mut errors = pairs_of(&[[0.2, 0.3, 0.2, 0.3]]);
        errors.items[0].scores = Some(vec![0.9, 0.1]);
        let Objective::Pairs(method) = built(entry.name, own) else { panic!("{} is a loss of pairs", entry.name) };
        let u = method.logits(&Pairs::of(&errors, 5000.0), &STEP);
        assert_eq!(u.double_value(&[0]), 0.0, "{}", entry.name);
    }
}
