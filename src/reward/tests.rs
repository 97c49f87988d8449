//! Shapings against hand-computed numbers and torch's, mixtures of scorers made up here, and the judges' scorers.

use super::*;
use crate::keys::Choice;
use crate::scorers::{Judge, TrainedJudge};
use pipelines::weights::TensorFile;
use std::path::Path;
use tch::Kind as Dtype;

/// Says what it is told to.
struct Fake(Vec<f64>);

impl Scorer for Fake {
    fn score(&self, _: &[RgbImage], _: i64, _: &[&str]) -> Result<Vec<f64>> {
        Ok(self.0.clone())
    }
}

fn fake(name: &str, numbers: &[f64]) -> Named {
    Named { name: name.into(), scorer: Box::new(Fake(numbers.to_vec())) }
}

fn root(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(path)
}

fn close(got: &[f64], expected: &[f64]) {
    assert_eq!(got.len(), expected.len());
    for (got, expected) in got.iter().zip(expected) {
        assert!((got - expected).abs() < 1e-12, "{got} instead of {expected}");
    }
}

#[test]
fn a_mixture_without_shaping_is_the_weighted_sum() {
    close(&Shaping::None.rewards(&[2.0, -1.0], &[vec![1.0, 3.0], vec![0.5, 4.0]]), &[1.5, 2.0]);
}

#[test]
fn standardised_rewards_have_mean_0_and_std_1_over_n() {
    // R = 1, 2, 6: mean 3, variance (4 + 1 + 9) / 3.
    let std = (14.0f64 / 3.0).sqrt();
    close(&Shaping::Standardise.rewards(&[1.0], &[vec![1.0, 2.0, 6.0]]), &[-2.0 / std, -1.0 / std, 3.0 / std]);
}

#[test]
fn equal_ratings_are_standardised_to_0_whatever_their_rounding() {
    close(&Shaping::Standardise.rewards(&[1.0], &[vec![0.1; 3]]), &[0.0; 3]);
    close(&Shaping::Standardise.rewards(&[1.0], &[vec![7.3]]), &[0.0]);
}

#[test]
fn log_sigmoid_and_par_measure_from_the_median_of_each_scorer() {
    // Medians 2 and 0: differences -ln 3, 0, ln 3 and 0, 0, 0. sigma(ln 3) = 3/4.
    let (l3, half) = (3f64.ln(), 0.5f64);
    let scored = [vec![2.0 - l3, 2.0, 2.0 + l3], vec![0.0; 3]];
    close(
        &Shaping::LogSigmoid.rewards(&[1.0, 2.0], &scored),
        &[0.25f64.ln() + 2.0 * half.ln(), 3.0 * half.ln(), 0.75f64.ln() + 2.0 * half.ln()],
    );
    close(&Shaping::Par.rewards(&[1.0, 2.0], &scored), &[0.25 + 1.0, 0.5 + 1.0, 0.75 + 1.0]);
    // Of two pictures the median is their mean.
    close(&Shaping::Par.rewards(&[1.0], &[vec![-l3, l3]]), &[0.25, 0.75]);
}

#[test]
fn every_shaping_has_a_name_of_its_own() {
    let mut shapings: Vec<Shaping> = Shaping::NAMES.iter().map(|name| name.parse().unwrap()).collect();
    let named = shapings.len();
    shapings.dedup();
    assert_eq!((shapings.len(), "median".parse::<Shaping>().ok()), (named, None));
}

#[test]
fn ratings_far_apart_stay_finite_in_every_shaping() {
    for name in Shaping::NAMES {
        let rewards = name.parse::<Shaping>().unwrap().rewards(&[1.0], &[vec![-1e6, 0.0, 1e6]]);
        assert!(rewards.iter().all(|r| r.is_finite()) && rewards[0] <= rewards[1] && rewards[1] < rewards[2], "{name}");
    }
}

#[test]
fn every_shaping_gives_the_numbers_of_torch() {
    let text = std::fs::read(root("tests/golden/rewards.json")).unwrap();
    let golden: serde_json::Value = serde_json::from_slice(&text).unwrap();
    let numbers = |v: &serde_json::Value| -> Vec<f64> { serde_json::from_value(v.clone()).unwrap() };
    for group in golden["groups"].as_array().unwrap() {
        let scored: Vec<Vec<f64>> = group["scored"].as_array().unwrap().iter().map(numbers).collect();
        for (name, expected) in group["rewards"].as_object().unwrap() {
            let got = name.parse::<Shaping>().unwrap().rewards(&numbers(&golden["weights"]), &scored);
            close(&got, &numbers(expected));
        }
    }
}

#[test]
fn ratings_are_kept_by_scorer_and_groups_of_them_are_shaped() {
    let scorers = vec![(fake("a", &[1.0, 2.0, 3.0]), 1.0), (fake("b", &[0.0, 1.0, 0.0]), 10.0)];
    let rewards = Rewards::new(scorers, vec![fake("c", &[7.0, 8.0, 9.0])], Shaping::None);
    let pictures = vec![RgbImage::new(1, 1); 3];
    let ratings = rewards.rate_and_watch(&pictures, 0, &["x"; 3]).unwrap();
    assert_eq!((rewards.names(), rewards.watch_names()), (vec!["a".into(), "b".into()], vec!["c".to_string()]));
    assert_eq!(ratings.watch, [[7.0, 8.0, 9.0]]);
    assert!(rewards.rate(&pictures, 0, &["x"; 3]).unwrap().watch.is_empty());
    assert_eq!(rewards.weighted(&ratings), [1.0, 12.0, 3.0]);
    let group = ratings.select(&[2, 1]);
    assert_eq!(group, Ratings { scores: vec![vec![3.0, 2.0], vec![0.0, 1.0]], watch: vec![vec![9.0, 8.0]] });
    assert_eq!(rewards.shaped(&group), [3.0, 12.0]);
    let mut collected = Ratings::default();
    collected.extend(ratings.select(&[0]));
    collected.extend(ratings.select(&[1, 2]));
    assert_eq!(collected, ratings);
}

#[test]
fn a_scorer_that_says_too_little_or_nothing_finite_is_named_with_picture_and_prompt() {
    let pictures = vec![RgbImage::new(1, 1); 3];
    let prompts = ["red apple", "black cat", "fox"];
    let said = |rewards: Rewards| rewards.rate_and_watch(&pictures, 0, &prompts).unwrap_err().to_string();
    let good = || fake("good", &[0.0; 3]);
    let bad = |numbers: &[f64]| Rewards::new(vec![(good(), 1.0), (fake("bad", numbers), 1.0)], vec![], Shaping::None);
    assert_eq!(
        said(bad(&[1.0, 2.0])),
        "scorer \"bad\" rated 2 of 3 pictures, the first for the prompt \"red apple\": expected a number a picture"
    );
    assert_eq!(
        said(bad(&[1.0, f64::NAN, 2.0])),
        "scorer \"bad\" rated picture 1 of 3 (counted from 0), for the prompt \"black cat\", as NaN: expected a finite number"
    );
    let watched = Rewards::new(vec![(good(), 1.0)], vec![fake("bad", &[0.0, 0.0, f64::INFINITY])], Shaping::None);
    assert!(
        said(watched).contains("scorer \"bad\" rated picture 2 of 3 (counted from 0), for the prompt \"fox\", as inf")
    );
    let few = Rewards::new(vec![(good(), 1.0)], vec![], Shaping::None).rate(&pictures, 0, &["fox"]);
    assert_eq!(few.unwrap_err().to_string(), "3 pictures with 1 prompts: expected as many");
}

fn entry(name: &str, path: &str) -> ScorerConfig {
    ScorerConfig { name: name.into(), weight: 1.0, path: root(path) }
}

/// Pictures of the judge's golden file: two flat drawings, two shaded ones.
fn drawings() -> Vec<RgbImage> {
    let golden = TensorFile::open(&root("tests/golden/judge.safetensors")).unwrap();
    let bytes = golden.tensor("images").unwrap(); // [4, 64, 64, 3]
    let picture = |i: i64| Vec::<u8>::try_from(bytes.get(i).contiguous().view(-1)).unwrap();
    (0..bytes.size()[0]).map(|i| RgbImage::from_raw(64, 64, picture(i)).unwrap()).collect()
}

#[test]
fn style_and_content_are_the_log_odds_of_the_judge_that_python_trained() {
    let golden = TensorFile::open(&root("tests/golden/judge.safetensors")).unwrap();
    let judge = TrainedJudge::open(&root("assets/judge")).unwrap();
    let pictures = drawings();
    let style = golden.tensor("style").unwrap().to_kind(Dtype::Double); // [4, 2]: flat, shaded
    let content = golden.tensor("content").unwrap().to_kind(Dtype::Double); // [4, names]
    let got = open_scorer(&entry("style", "assets/judge"), Device::Cpu).unwrap().score(&pictures, 0, &[""; 4]).unwrap();
    for (i, got) in got.iter().enumerate() {
        let expected = style.double_value(&[i as i64, 0]) - style.double_value(&[i as i64, 1]);
        assert!((got - expected).abs() < 2e-3, "{got} instead of {expected}");
        assert_eq!(*got > 0.0, i < 2);
    }
    // Of a picture that shows something else, so that the clamp is not all that is seen.
    for name in [0usize, 1, judge.names().len() - 1] {
        let prompts = [judge.names()[name].as_str(); 4];
        let got =
            open_scorer(&entry("content", "assets/judge"), Device::Cpu).unwrap().score(&pictures, 0, &prompts).unwrap();
        let p = content.softmax(1, Dtype::Double).select(1, name as i64);
        for (i, got) in got.iter().enumerate() {
            let p = p.double_value(&[i as i64]);
            let expected = (p.ln() - (-p).ln_1p()).clamp(-LARGEST, LARGEST);
            assert!((got - expected).abs() < 2e-3, "{got} instead of {expected}");
        }
    }
}

/// Every registered scorer with the bundled files it can be opened from; a new one needs a line here.
fn opened() -> Vec<(&'static str, Box<dyn Scorer>)> {
    let at = |name: &str| match name {
        "style" | "content" => entry(name, "assets/judge"),
        "compressibility" => ScorerConfig { name: name.into(), weight: 1.0, path: PathBuf::new() },
        other => panic!("nothing to open {other} from"),
    };
    names().into_iter().map(|name| (name, open_scorer(&at(name), Device::Cpu).unwrap())).collect()
}

#[test]
fn a_picture_is_worth_the_same_to_the_last_bit_whatever_is_beside_it() {
    let mut pictures = drawings();
    pictures.push(image::imageops::resize(&pictures[0], 40, 40, image::imageops::FilterType::Triangle));
    let judge = TrainedJudge::open(&root("assets/judge")).unwrap();
    let prompts: Vec<&str> = judge.names().iter().take(pictures.len()).map(String::as_str).collect();
    for (name, scorer) in opened() {
        let together = scorer.score(&pictures, 0, &prompts).unwrap();
        for (i, picture) in pictures.iter().enumerate() {
            let alone = scorer.score(std::slice::from_ref(picture), 0, &prompts[i..=i]).unwrap();
            assert_eq!(alone[0].to_bits(), together[i].to_bits(), "{name}: picture {i}");
        }
    }
}

#[test]
fn compressibility_is_minus_the_size_of_the_jpeg_in_kilobytes() {
    let plain = RgbImage::from_pixel(64, 64, image::Rgb([200, 30, 30]));
    let mut noisy = plain.clone();
    let mut state = 1u32;
    noisy.pixels_mut().for_each(|pixel| {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        pixel.0 = [(state >> 24) as u8, (state >> 16) as u8, (state >> 8) as u8];
    });
    let scorer = open_scorer(&entry("compressibility", ""), Device::Cpu).unwrap();
    let got = scorer.score(&[plain, noisy.clone()], 0, &[""; 2]).unwrap();
    let mut bytes = std::io::Cursor::new(Vec::new());
    noisy.write_with_encoder(image::codecs::jpeg::JpegEncoder::new_with_quality(&mut bytes, 95)).unwrap();
    assert_eq!(got[1], -(bytes.get_ref().len() as f64) / 1000.0);
    // Headers and one colour against 12,288 bytes of noise, which hardly shrink.
    assert!(got[0] > -1.2 && got[1] < -8.0, "{got:?}");
}

#[test]
fn a_prompt_that_the_judge_does_not_know_is_refused_with_the_nearest_name() {
    let rewards = Rewards::new(
        vec![(
            Named {
                name: "content".into(),
                scorer: open_scorer(&entry("content", "assets/judge"), Device::Cpu).unwrap(),
            },
            1.0,
        )],
        vec![],
        Shaping::None,
    );
    let said = |prompt: &str| format!("{:#}", rewards.rate(&drawings()[..1], 0, &[prompt]).unwrap_err());
    let judge = TrainedJudge::open(&root("assets/judge")).unwrap();
    assert_eq!(
        said("red aple"),
        format!(
            "scorer \"content\" cannot rate: the prompt \"red aple\" is none of the {} names that the judge knows, did you mean \"red apple\"? Take prompts from its config.json (`names`), or another scorer",
            judge.names().len()
        )
    );
    assert!(said("a very long prompt about nothing at all").contains("that the judge knows. Take prompts"));
}

#[test]
fn scorers_are_opened_by_name_and_what_is_missing_is_said() {
    let config = |name: &str, path: &str| {
        let scorers = vec![entry("style", "assets/judge"), entry("style", "assets/judge-labels"), entry(name, path)];
        crate::settings::RewardConfig { scorers, shaping: Shaping::Par, watch: vec![entry("content", "assets/judge")] }
    };
    let rewards = Rewards::open(&config("content", "assets/judge"), Device::Cpu).unwrap();
    assert_eq!(rewards.names(), ["style", "style_2", "content"]);
    assert_eq!(rewards.watch_names(), ["content"]);
    let said = format!("{:#}", Rewards::open(&config("content", "assets/nowhere"), Device::Cpu).err().unwrap());
    assert!(said.starts_with("reward.scorers: cannot open the scorer \"content\": cannot read "), "{said}");
    assert!(
        said.contains("assets/nowhere/config.json; a judge is a folder with config.json and model.safetensors"),
        "{said}"
    );
    assert_eq!(files(&entry("style", "j")).unwrap(), [root("j/config.json"), root("j/model.safetensors")]);
    assert_eq!(weights(&entry("content", "j")).unwrap(), Some(root("j/model.safetensors")));
    assert!(files(&entry("compressibility", "j")).unwrap().is_empty());
}
