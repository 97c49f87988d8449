//! Losses against numbers computed twice outside of this program (docs/methods.md, fixtures of scorers), their gradients
//! against finite differences, and start values.

use super::pal::{PalLoss, Variant};
use super::*;
use super::{btt, dimensions, disagreement_margin, dprm, gpm, hpsv2, lore, pal, pickscore, ranklist, uncertainty};
use tch::{Device, Kind, Tensor};

fn vector(values: &[f64]) -> Tensor {
    Tensor::from_slice(values)
}

fn row(values: &[f64]) -> Tensor {
    vector(values).unsqueeze(0)
}

fn close(got: &Tensor, expected: &[f64]) {
    let got = Vec::<f64>::try_from(got.flatten(0, -1)).unwrap();
    assert_eq!(got.len(), expected.len());
    for (got, expected) in got.iter().zip(expected) {
        assert!((got - expected).abs() < 1e-6, "{got}, expected {expected}");
    }
}

/// Cosines (.215, .190) 0 wins, (.200, .203) 1 wins, (.210, .214) tie, times 100.
fn differences() -> (Tensor, Tensor) {
    (vector(&[2.5, -0.3, -0.4]), vector(&[1.0, 0.0, 0.5]))
}

#[test]
fn pickscore_is_that_of_the_fixture() {
    let (d, y) = differences();
    let losses = pickscore::losses(&d, &y);
    close(&losses, &[0.078890, 0.554355, 0.019868]);
    let weights = prompt_weights(&[1.0, 4.0, 2.0]);
    close(&vector(&weights), &[0.571429, 0.142857, 0.285714]);
    close(&(losses * vector(&weights)).sum(Kind::Double), &[0.129950]);
}

#[test]
fn hpsv2_is_that_of_the_fixture() {
    let (d, y) = differences();
    let hard = hpsv2::losses(&d.narrow(0, 0, 2), &y.narrow(0, 0, 2));
    close(&hard.sum(Kind::Double), &[0.633245]);
    close(&hpsv2::losses(&vector(&[2.5]), &vector(&[0.8])), &[0.078487]);
    let perfect = vector(&[(0.8f64 / 0.2).ln()]);
    close(&hpsv2::losses(&perfect, &vector(&[0.8])), &[0.0]);
}

#[test]
fn a_certain_share_costs_no_more_in_float32() {
    let (d, y) = (differences().0.to_kind(Kind::Float), Tensor::from_slice(&[1f32, 0.0, 0.5]));
    close(&hpsv2::losses(&d, &y).to_kind(Kind::Double), &[0.078890, 0.554355, 0.019868]);
    close(&pickscore::losses(&d, &y).to_kind(Kind::Double), &[0.078890, 0.554355, 0.019868]);
}

#[test]
fn margins_are_those_of_the_fixture() {
    // Strength of (.4, -.1, .2, .6): mean .275, soft label .568320; r_w - r_l = .7.
    let of = |y: f64, margin: f64| disagreement_margin::losses(&vector(&[0.7]), &vector(&[y]), &vector(&[margin]));
    close(&of(1.0, 0.275), &[0.503057]);
    close(&of(0.568320, 0.0), &[0.705362]);
    // Unanimous votes ask for k, two of three for a third of it.
    assert_eq!(margin_of_votes(1.0, 1.5), 1.5);
    assert!((margin_of_votes(2.0 / 3.0, 1.5) - 0.5).abs() < 1e-12);
}

fn products(gradients: &[&[f64]]) -> Vec<Vec<f64>> {
    let product = |a: &[f64], b: &[f64]| a.iter().zip(b).map(|(a, b)| a * b).sum();
    gradients.iter().map(|a| gradients.iter().map(|b| product(a, b)).collect()).collect()
}

#[test]
fn shares_of_data_sets_are_those_of_the_fixture() {
    close(&vector(&more_shares(&products(&[&[1.0, 0.0], &[-0.5, 1.0]]))), &[0.538462, 0.461538]);
    // A gradient that no other contradicts and that is the shortest counts alone; opposite ones cancel.
    close(&vector(&more_shares(&products(&[&[1.0, 0.0], &[3.0, 1.0]]))), &[1.0, 0.0]);
    close(&vector(&more_shares(&products(&[&[2.0], &[-1.0]]))), &[1.0 / 3.0, 2.0 / 3.0]);
    assert_eq!(more_shares(&products(&[&[1.0, 2.0]])), [1.0]);
}

#[test]
fn the_direction_of_three_data_sets_worsens_none() {
    let gradients: [&[f64]; 3] = [&[1.0, 0.2, -0.3], &[-0.6, 0.9, 0.1], &[0.2, -0.5, 0.8]];
    let shares = more_shares(&products(&gradients));
    let sum = |at: usize| shares.iter().zip(&gradients).map(|(share, own)| share * own[at]).sum::<f64>();
    let direction = [sum(0), sum(1), sum(2)];
    let square: f64 = direction.iter().map(|x| x * x).sum();
    assert!((shares.iter().sum::<f64>() - 1.0).abs() < 1e-12 && shares.iter().all(|share| *share >= 0.0));
    for own in gradients {
        // At the minimum <g_k, d> >= |d|^2, with equality where lambda_k is above 0.
        let along: f64 = own.iter().zip(direction).map(|(a, b)| a * b).sum();
        assert!(along > square - 1e-9, "{along} {square}");
    }
}

#[test]
fn uncertainty_is_that_of_the_fixture() {
    let of =
        |d: f64, a: f64, b: f64| uncertainty::losses(&vector(&[d]), (&vector(&[a]), &vector(&[b])), &vector(&[1.0]));
    close(&of(0.5, 0.3, 0.4), &[0.502741]);
    close(&of(0.5, 1.2, 0.9), &[0.697046]);
    close(&of(0.5, 0.0, 0.0), &[0.474077]);
    close(&of(-0.2, 0.3, 0.4), &[0.828207]);
}

#[test]
fn the_quadrature_is_exact_for_moments() {
    let (nodes, weights) = uncertainty::gauss_hermite(32);
    let moment = |power: i32| nodes.iter().zip(&weights).map(|(x, w)| w * x.powi(power)).sum::<f64>();
    let root = std::f64::consts::PI.sqrt();
    for (power, expected) in [(0, root), (1, 0.0), (2, root / 2.0), (4, root * 0.75), (8, root * 6.5625)] {
        assert!((moment(power) - expected).abs() < 1e-12 * root.max(expected), "{power}: {}", moment(power));
    }
}

#[test]
fn ties_of_bradley_and_terry_have_the_probability_of_k() {
    // At d = 0 of k = 5: win 1/6, tie 2/3.
    let at = |y: f64| btt::losses(&vector(&[0.0]), &vector(&[y]), 5.0);
    close(&at(1.0), &[6f64.ln()]);
    close(&at(0.0), &[6f64.ln()]);
    close(&at(0.5), &[1.5f64.ln()]);
    // The three outcomes of any pair sum to 1.
    let outcome = |y: f64| (-btt::losses(&vector(&[1.3]), &vector(&[y]), 5.0)).exp();
    close(&(outcome(1.0) + outcome(0.5) + outcome(0.0)), &[1.0]);
}

#[test]
fn ranklist_is_that_of_the_fixture_whatever_the_order() {
    let terms = ranklist::terms(&vector(&[1.2, 0.4, 0.7, -0.3]), &[1.0, 2.0, 3.0, 4.0], 3);
    close(&Tensor::stack(&terms, 0), &[1.152806, 0.743420, 0.201413]);
    let turned = ranklist::terms(&vector(&[0.7, -0.3, 1.2, 0.4]), &[3.0, 4.0, 1.0, 2.0], 3);
    close(&Tensor::stack(&turned, 0).sum(Kind::Double), &[2.097639]);
    // Equal places give no term, two pictures the choice of PickScore.
    close(&ranklist::terms(&vector(&[1.0, 2.0]), &[1.0, 1.0], 1)[0], &[0.0]);
    close(&ranklist::terms(&vector(&[21.5, 19.0]), &[1.0, 2.0], 1)[0], &[0.078890]);
}

#[test]
fn compared_places_grow_over_the_first_half() {
    let at = |progress: f64| ranklist::exposed(5, progress, 0.5);
    assert_eq!([at(0.0), at(0.2), at(0.49), at(0.5), at(1.0)], [1, 2, 3, 4, 4]);
    assert_eq!((ranklist::exposed(2, 0.0, 0.5), ranklist::exposed(5, 0.0, 0.0)), (1, 4));
}

#[test]
fn gpm_is_that_of_the_fixture() {
    let at = |degrees: f64| row(&[degrees.to_radians().cos(), degrees.to_radians().sin()]);
    let cycle = [at(0.0), at(120.0), at(240.0)];
    let one = row(&[1.0]);
    for i in 0..3 {
        let g = gpm::score(&cycle[i], &cycle[(i + 1) % 3], &one);
        close(&g, &[0.866025]);
        close(&(g / 0.1).sigmoid(), &[0.999827]);
        let advantage: Tensor = (0..3).map(|j| gpm::score(&cycle[i], &cycle[j], &one)).sum();
        close(&advantage, &[0.0]);
    }
    let (w, l) = (row(&[0.5, 0.2, -0.1, 0.4]), row(&[0.3, 0.6, 0.2, -0.3]));
    close(&gpm::score(&w, &l, &row(&[1.0, 1.0])), &[0.190000]);
    let weights = gpm::plane_weights(&row(&[0.3, -0.1]));
    close(&weights, &[1.197375, 0.802625]);
    let g = gpm::score(&w, &l, &weights);
    close(&g, &[0.247239]);
    close(&gpm::losses(&g, &vector(&[1.0]), 0.1), &[0.081011]);
}

#[test]
fn pal_is_that_of_the_fixture() {
    let weights = row(&[0.7, -0.2]).softmax(-1, Kind::Double);
    close(&weights, &[0.710950, 0.289050]);
    let prototypes = Tensor::from_slice2(&[[1.0, 0.0], [0.0, 1.0]]).unsqueeze(0);
    let ideal = pal::ideal(&weights, &prototypes);
    let rating = |x: &[f64]| pal::alignment(&row(x), &ideal, &vector(&[1.0 / 0.07]));
    let (w, l) = (rating(&[0.8, 0.6]), rating(&[0.6, -0.8]));
    close(&w, &[13.815276]);
    close(&l, &[3.635900]);
    close(&pickscore::losses(&(w - l), &vector(&[1.0])), &[0.000038]);
    let near = |x: &[f64]| pal::nearness(&row(x), &row(&[0.3, 0.1]));
    let (w, l) = (near(&[0.8, 0.6]), near(&[0.6, -0.8]));
    close(&w, &[-std::f64::consts::FRAC_1_SQRT_2]);
    close(&l, &[-0.948683]);
    let logit = w - l;
    close(&logit, &[0.241577]);
    close(&pal::ideal_point_losses(&logit, &vector(&[1.0]), PalLoss::Hinge), &[0.758423]);
    close(&pal::ideal_point_losses(&logit, &vector(&[1.0]), PalLoss::Logistic), &[0.579636]);
}

#[test]
fn lore_is_that_of_the_fixture() {
    // V as coded has a column per basis; the code divides by 100.
    let bases = Tensor::from_slice2(&[[1.0, 0.5, 0.0], [0.2, -0.3, 1.0]]);
    let free = row(&[0.4, -0.4]);
    close(&free.softmax(-1, Kind::Double), &[0.689974, 0.310026]);
    let logit = lore::ratings(&row(&[20.0, -10.0, 30.0]), &bases, &free) / 100.0;
    close(&logit, &[0.218206]);
    close(&pickscore::losses(&logit, &vector(&[1.0])), &[0.589984]);
    close(&lore::distance_from_ones(&bases), &[0.368295]);
    assert_eq!([0.1, 0.2, 0.5, 0.8, 1.0].map(|progress| lore::ramp(2.0, progress)), [0.0, 0.0, 1.0, 2.0, 2.0]);
}

#[test]
fn dprm_is_that_of_the_fixture() {
    let target = dprm_target(3, 1, 4);
    close(&vector(&target), &[0.015625, 0.171875, 0.4453125, 0.3671875]);
    let predicted = row(&[0.1, 0.2, 0.3, 0.4]);
    close(&dprm::distances(&predicted, &row(&target)), &[0.057422]);
    close(&dprm::scores(&predicted), &[0.625]);
    close(&vector(&dprm_target(0, 0, 2)), &[0.5, 0.5]);
}

#[test]
fn a_dimension_without_a_label_does_not_count() {
    let d = Tensor::from_slice2(&[[2.5, 7.0], [0.3, -0.4]]);
    let shares = Tensor::from_slice2(&[[1.0, -1.0], [1.0, 0.5]]);
    let (first, second) = (0.078890, (0.554355 + 0.019868) / 2.0);
    close(&dimensions::losses(&d, &shares), &[first, second]);
}

#[test]
fn pictures_of_one_caption_share_it() {
    let images = Tensor::from_slice2(&[[1.0, 0.0], [1.0, 0.0], [0.0, 1.0]]);
    let scale = vector(&[1000.0]);
    let loss = contrastive_loss(&images, &images, &scale, &Tensor::from_slice(&[4i64, 4, 7]));
    // The two pictures of caption 4 each choose among two captions: ln 2 over two of three rows.
    close(&loss, &[2.0 / 3.0 * 2f64.ln()]);
    let apart = contrastive_loss(&images, &images, &vector(&[0.0]), &Tensor::from_slice(&[1i64, 2, 3]));
    close(&apart, &[3f64.ln()]);
}

fn methods() -> Vec<Method> {
    let of = |table: &str| -> Method { toml::from_str(table).unwrap() };
    vec![
        of("name = \"pickscore\"\nas_published = false"),
        of("name = \"hpsv2\"\nlabels = \"soft\""),
        of("name = \"disagreement_margin\"\nsource = \"strength\"\nk = 1.0"),
        of("name = \"more\""),
        of("name = \"uncertainty\""),
        of("name = \"btt\"\nk = 5.0"),
        of("name = \"ranklist\"\nexposure = 0.0"),
        of("name = \"gpm\"\nplanes = 2\ntau = 0.1\nprompt_weights = true"),
        of("name = \"dimensions\"\ntext = \"{dimension}: {prompt}\""),
        of(&pal_table(Variant::A)),
        of(&pal_table(Variant::B)),
        of("name = \"lore\"\nbases = 3\nalpha = 0.1"),
        of("name = \"dprm\"\nbins = 4"),
    ]
}

fn pal_table(variant: Variant) -> String {
    format!(
        "name = \"pal\"\nvariant = \"{variant}\"\nprototypes = 2\nwidth = 6\nloss = \"logistic\"\nuser_rate = 50.0\nscale_rate = 1000.0"
    )
}

const WIDTH: i64 = 5;
const PAIRS: i64 = 3;

/// Features, prompts and the logarithm of the scale.
fn features(texts: i64) -> [Tensor; 3] {
    let unit = |name: &str, shape: &[i64]| {
        let drawn = shared::drawn(3, &name, shape, 1.0).to_kind(Kind::Double);
        &drawn / shared::length(&drawn).unsqueeze(-1)
    };
    [unit("images", &[2 * PAIRS, WIDTH]), unit("prompts", &[2 * PAIRS, texts, WIDTH]), vector(&[1.2]).squeeze()]
}

fn batch() -> Batch {
    Batch {
        share: vector(&[1.0, 0.5, 0.75]),
        margins: vector(&[0.4, 0.0, -0.2]),
        dimensions: Tensor::from_slice2(&[[1.0, 0.0], [-1.0, 0.5], [1.0, -1.0]]),
        records: vec![[1, 0], [0, 1], [2, 1], [1, 2], [0, 0], [3, 0]],
        lists: vec![
            Ranking { start: 0, places: vec![2.0, 1.0, 3.0] },
            Ranking { start: 3, places: vec![1.0, 1.0, 2.0] },
        ],
        progress: 1.0,
    }
}

fn whole_loss(head: &dyn Head, [images, prompts, log_scale]: &[Tensor; 3]) -> Tensor {
    let users = Tensor::from_slice(&[0i64, 0, 1, 1, 0, 0]);
    let users = (!head.users().is_empty()).then_some(&users);
    let scale = log_scale.exp();
    let outputs = head.outputs(&Input { images, prompts, scale: &scale, users });
    let sum = head.losses(&outputs, &batch()).sum(Kind::Double);
    match head.penalty(1.0) {
        Some(penalty) => sum + penalty,
        None => sum,
    }
}

/// Central differences of the loss by every number of `leaf`.
fn slopes(leaf: &Tensor, loss: &dyn Fn() -> Tensor) -> Vec<f64> {
    let _frozen = tch::no_grad_guard();
    let flat = leaf.view([-1]);
    let step = 1e-5;
    let at = |i: i64, value: f64| {
        drop(flat.get(i).fill_(value));
        loss().double_value(&[])
    };
    let slope = |i: i64| {
        let own = flat.double_value(&[i]);
        let slope = (at(i, own + step) - at(i, own - step)) / (2.0 * step);
        at(i, own);
        slope
    };
    (0..flat.size()[0]).map(slope).collect()
}

#[test]
fn gradients_of_every_head_are_those_of_finite_differences() {
    let (users, names) = (["ann".to_string(), "bob".into()], ["style".to_string(), "content".into()]);
    for method in methods() {
        let built =
            Built { width: WIDTH, users: &users, dimensions: &names, only_users: false, seed: 7, device: Device::Cpu };
        let head = method.head(&built);
        let in_double: Vec<(String, Tensor)> = head.parameters();
        in_double.iter().for_each(|(_, tensor)| tensor.shallow_clone().set_data(&tensor.to_kind(Kind::Double)));
        let texts = head.texts("x").len() as i64;
        let features = features(texts);
        let leaves: Vec<Tensor> = features.iter().map(Tensor::shallow_clone).collect();
        let leaves: Vec<Tensor> = leaves.into_iter().chain(in_double.into_iter().map(|(_, tensor)| tensor)).collect();
        leaves.iter().for_each(|leaf| drop(leaf.set_requires_grad(true)));
        let loss = || whole_loss(head.as_ref(), &features);
        loss().backward();
        for leaf in &leaves {
            let grad = leaf.grad();
            let got =
                if grad.defined() { Vec::<f64>::try_from(grad.view([-1])).unwrap() } else { vec![0.0; leaf.numel()] };
            for (got, expected) in got.iter().zip(slopes(leaf, &loss)) {
                let name = method.objective();
                assert!((got - expected).abs() < 1e-6 * (1.0 + expected.abs()), "{name}: {got}, expected {expected}");
            }
        }
    }
}

#[test]
fn exchanged_pictures_have_the_opposite_probability() {
    let (users, names) = (["ann".to_string(), "bob".into()], ["style".to_string(), "content".into()]);
    for method in methods() {
        let built =
            Built { width: WIDTH, users: &users, dimensions: &names, only_users: false, seed: 7, device: Device::Cpu };
        let head = method.head(&built);
        let [images, prompts, log_scale] = features(head.texts("x").len() as i64).map(|t| t.to_kind(Kind::Float));
        let prompts = prompts.narrow(0, 0, 1).expand_as(&prompts);
        let outputs = head.outputs(&Input { images: &images, prompts: &prompts, scale: &log_scale.exp(), users: None });
        let pairs = outputs.view([PAIRS, 2, -1]);
        let (first, second) = (head.probabilities(&pairs), head.probabilities(&pairs.flip([1])));
        assert!(((&first + second) - 1.0).abs().max().double_value(&[]) < 1e-5, "{}", method.objective());
        let inside = first.ge(0.0).logical_and(&first.le(1.0)).all().int64_value(&[]);
        assert_eq!((inside, first.size()[0]), (1, PAIRS), "{}", method.objective());
    }
}

#[test]
fn a_head_written_and_read_gives_the_same_numbers() {
    let dir = tempfile::tempdir().unwrap();
    let users = vec!["ann".to_string(), "bob".into()];
    for method in methods() {
        let built =
            Built { width: WIDTH, users: &users, dimensions: &users, only_users: false, seed: 9, device: Device::Cpu };
        let head = method.head(&built);
        let saved = Saved {
            method: method.clone(),
            preprocessing: Preprocessed::Crop,
            width: WIDTH,
            users: users.clone(),
            dimensions: users.clone(),
            data_sha256: Vec::new(),
            figures: serde_json::Value::Null,
        };
        let _ = std::fs::remove_file(dir.path().join(WEIGHTS));
        saved.write(dir.path(), head.as_ref()).unwrap();
        let read = Saved::read(dir.path()).unwrap().unwrap();
        let again = read.head(dir.path(), Device::Cpu).unwrap();
        for ((name, a), (_, b)) in head.parameters().iter().zip(again.parameters()) {
            assert_eq!(*a, b, "{name} of {}", method.objective());
        }
    }
}
