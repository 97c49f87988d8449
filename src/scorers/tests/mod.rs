//! Shapings against hand-computed numbers and torch's, mixtures of scorers made up here, and every registered scorer.

mod clip;
mod published;
mod real_weights;

use super::*;
use crate::keys::Choice;
use anyhow::Result;
use image::RgbImage;
use pipelines::families::ModelFolder;
use pipelines::weights::{LoadOptions, TensorFile};
use std::path::{Path, PathBuf};
use tch::Kind as Dtype;

/// Returns given numbers.
struct Fake(Vec<f64>);

impl Scorer for Fake {
    fn measures(&self) -> &[Measure] {
        const { &[Measure::real("fake", "", None, None, Scope::Picture)] }
    }

    fn score(&self, _: &[RgbImage], _: i64, _: &[&str]) -> Result<Table> {
        Ok(Table::of_column(self.0.clone()))
    }
}

fn fake(name: &str, numbers: &[f64]) -> Named {
    Named { name: name.into(), scorer: Box::new(Fake(numbers.to_vec())), measure: 0 }
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
    assert_eq!(
        group,
        Ratings { scores: vec![vec![3.0, 2.0], vec![0.0, 1.0]], watch: vec![vec![9.0, 8.0]], ..Ratings::default() }
    );
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
        "scorer \"bad\" rated 2 of 3 pictures, the first for the prompt \"red apple\": expected one row per picture"
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

fn spec(name: &str, path: &str) -> ScorerSpec {
    ScorerSpec { name: name.into(), path: if path.is_empty() { PathBuf::new() } else { root(path) } }
}

fn open(name: &str, path: &str) -> Box<dyn Scorer> {
    spec(name, path).open(LoadOptions::cpu(), None).unwrap()
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
    let judge = Judge::open(&root("assets/judge")).unwrap();
    let pictures = drawings();
    let style = golden.tensor("style").unwrap().to_kind(Dtype::Double); // [4, 2]: flat, shaded
    let content = golden.tensor("content").unwrap().to_kind(Dtype::Double); // [4, names]
    let got = open("style", "assets/judge").score(&pictures, 0, &[""; 4]).unwrap();
    assert_eq!(got.column(1), [1.0, 1.0, 0.0, 0.0]);
    for (i, got) in got.column(0).iter().enumerate() {
        let expected = style.double_value(&[i as i64, 0]) - style.double_value(&[i as i64, 1]);
        assert!((got - expected).abs() < 2e-3, "{got} instead of {expected}");
        assert_eq!(*got > 0.0, i < 2);
    }
    // Of a picture that shows something else, so that the clamp is not all that is seen.
    for name in [0usize, 1, judge.names().len() - 1] {
        let prompts = [judge.names()[name].as_str(); 4];
        let got = open("content", "assets/judge").score(&pictures, 0, &prompts).unwrap();
        let shown = Vec::<i64>::try_from(content.argmax(1, false)).unwrap();
        assert_eq!(got.column(1), shown.iter().map(|i| f64::from(*i == name as i64)).collect::<Vec<_>>());
        let p = content.softmax(1, Dtype::Double).select(1, name as i64);
        for (i, got) in got.column(0).iter().enumerate() {
            let p = p.double_value(&[i as i64]);
            let expected = (p.ln() - (-p).ln_1p()).clamp(-LARGEST, LARGEST);
            assert!((got - expected).abs() < 2e-3, "{got} instead of {expected}");
        }
    }
}

/// Every registered scorer, opened from the bundled files; `http` has none and needs a server.
fn opened() -> Vec<(&'static Declaration, Box<dyn Scorer>)> {
    let model = ModelFolder::open(&root("assets/demo-model")).unwrap();
    let open = |scorer: &Declaration| spec(scorer.name, scorer.example).open(LoadOptions::cpu(), Some(&model)).unwrap();
    let bundled = REGISTRY.iter().filter(|scorer| scorer.files.is_none() || !scorer.example.is_empty());
    bundled.map(|declaration| (declaration, open(declaration))).collect()
}

#[test]
fn a_picture_has_the_same_numbers_to_the_last_bit_whatever_is_rated_with_it() {
    let mut pictures = drawings();
    pictures.push(image::imageops::resize(&pictures[0], 40, 40, image::imageops::FilterType::Triangle));
    let judge = Judge::open(&root("assets/judge")).unwrap();
    let prompts: Vec<&str> = judge.names().iter().take(pictures.len()).map(String::as_str).collect();
    for (Declaration { name, measures, .. }, scorer) in opened() {
        let together = scorer.score(&pictures, 0, &prompts).unwrap();
        // Other programs describe theirs when they are opened.
        assert!(scorer.measures() == *measures || (measures.is_empty() && !scorer.measures().is_empty()), "{name}");
        for (i, picture) in pictures.iter().enumerate() {
            let alone = scorer.score(std::slice::from_ref(picture), 0, &prompts[i..=i]).unwrap();
            let bits = |row: &[f64]| row.iter().map(|number| number.to_bits()).collect::<Vec<_>>();
            assert_eq!(bits(&alone.0[0]), bits(&together.0[i]), "{name}: picture {i}");
        }
    }
}

#[test]
fn numbers_lie_in_the_declared_ranges_and_prompts_that_are_checked_can_be_rated() {
    let pictures = drawings();
    for (Declaration { name, .. }, scorer) in opened() {
        // A name of the demo, and one of the test bed.
        let prompt = ["red apple", "balloon"].into_iter().find(|prompt| scorer.check(prompt).is_ok()).unwrap();
        for row in scorer.score(&pictures, 0, &[prompt; 4]).unwrap().0 {
            for (measure, number) in scorer.measures().iter().zip(row) {
                let fits = match measure.range {
                    Range::Decision => number == 0.0 || number == 1.0,
                    Range::Real { min, max } => {
                        min.is_none_or(|min| min <= number) && max.is_none_or(|max| number <= max)
                    }
                };
                assert!(fits, "{name}.{}: {number}", measure.name);
            }
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
    let scorer = open("compressibility", "");
    let got = scorer.score(&[plain, noisy.clone()], 0, &[""; 2]).unwrap().column(0);
    let mut bytes = std::io::Cursor::new(Vec::new());
    noisy.write_with_encoder(image::codecs::jpeg::JpegEncoder::new_with_quality(&mut bytes, 95)).unwrap();
    assert_eq!(got[1], -(bytes.get_ref().len() as f64) / 1000.0);
    // Headers and one colour against 12,288 bytes of noise, which hardly shrink.
    assert!(got[0] > -1.2 && got[1] < -8.0, "{got:?}");
}

#[test]
fn a_measure_where_lower_is_better_is_turned_before_it_is_weighed() {
    let named = Named { name: "brisque".into(), scorer: open("brisque", "assets/scorers/brisque"), measure: 0 };
    let rewards = Rewards::new(vec![(named, 2.0)], vec![], Shaping::Par);
    let ratings = Ratings { scores: vec![vec![10.0, 30.0]], ..Ratings::default() };
    assert_eq!(rewards.weighted(&ratings), [-20.0, -60.0]);
    let shaped = rewards.shaped(&ratings);
    assert!(shaped[0] > shaped[1], "{shaped:?}");
}

#[test]
fn a_prompt_that_the_judge_does_not_know_is_refused_with_the_nearest_name() {
    let rewards = Rewards::new(
        vec![(Named { name: "content".into(), scorer: open("content", "assets/judge"), measure: 0 }, 1.0)],
        vec![],
        Shaping::None,
    );
    let said = |prompt: &str| format!("{:#}", rewards.rate(&drawings()[..1], 0, &[prompt]).unwrap_err());
    let judge = Judge::open(&root("assets/judge")).unwrap();
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
fn scorers_are_opened_by_name_and_missing_files_are_named() {
    let config = |name: &str, path: &str| {
        let scorers = [spec("style", "assets/judge"), spec("style", "assets/judge-labels"), spec(name, path)];
        let rated = |scorer| Rated { scorer, measure: None };
        let scorers = scorers.into_iter().map(|scorer| Weighted { rated: rated(scorer), weight: 1.0 }).collect();
        RewardConfig {
            scorers,
            shaping: Shaping::Par,
            watch: vec![rated(spec("content", "assets/judge"))],
            pairwise: Vec::new(),
        }
    };
    let open = |name: &str, path: &str| Rewards::open(&config(name, path), LoadOptions::cpu(), None);
    let rewards = open("content", "assets/judge").unwrap();
    assert_eq!(rewards.names(), ["style", "style_2", "content"]);
    assert_eq!(rewards.watch_names(), ["content"]);
    let said = format!("{:#}", open("content", "assets/nowhere").err().unwrap());
    assert!(said.starts_with("reward.scorers: cannot open the scorer \"content\": cannot read "), "{said}");
    assert!(
        said.contains("assets/nowhere/config.json; a judge is a folder with config.json and model.safetensors"),
        "{said}"
    );
    let said = format!("{:#}", open("nearest_latents", "assets/emoji").err().unwrap());
    assert!(said.contains("\"nearest_latents\": it compares latents, and there is no model"), "{said}");
    assert_eq!(spec("style", "j").files().unwrap(), [root("j/config.json"), root("j/model.safetensors")]);
    assert_eq!(spec("content", "j").weights().unwrap(), Some(root("j/model.safetensors")));
    assert!(spec("compressibility", "j").files().unwrap().is_empty());
    assert_eq!(spec("nearest_pixels", "assets/emoji").files().unwrap().len(), 1 + 2 * 160);
}

#[test]
fn a_scorer_on_the_command_line_is_a_name_with_its_files() {
    let said = |text: &str| text.parse::<ScorerSpec>().unwrap_err();
    assert_eq!("style=a=b".parse(), Ok(ScorerSpec { name: "style".into(), path: "a=b".into() }));
    assert_eq!("compressibility".parse(), Ok(spec("compressibility", "")));
    assert_eq!(said("style"), "\"style\" needs its files: style=PATH, a folder with config.json and model.safetensors");
    assert_eq!(said("compressibility=x"), "\"compressibility\" reads no files: leave out \"=x\"");
    assert!(said("stile=x").ends_with("(did you mean \"style\"?)"), "{}", said("stile=x"));
    assert!(said("hpsv3").starts_with("\"hpsv3\": which is not built yet: take \"style\" | "), "{}", said("hpsv3"));
}
