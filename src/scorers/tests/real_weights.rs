//! Published numbers of published weights. Neither is part of the project: `tests/real-weights.sh` passes the user's own
//! files by environment variables.

use crate::scorers::ScorerSpec;
use image::RgbImage;
use pipelines::weights::LoadOptions;
use std::path::PathBuf;

/// The path in an environment variable.
fn path(variable: &str) -> PathBuf {
    std::env::var_os(variable).unwrap_or_else(|| panic!("{variable} is not set: run tests/real-weights.sh")).into()
}

fn picture(variable: &str) -> RgbImage {
    image::open(path(variable)).unwrap().to_rgb8()
}

/// Numbers of one picture for several prompts. pickscore's are exp(logit_scale) times the cosine, as the logits of CLIP.
fn logits(folder: &str, picture: &RgbImage, prompts: &[&str]) -> Vec<f64> {
    let spec = ScorerSpec { name: "pickscore".into(), path: path(folder) };
    let scorer = spec.open(LoadOptions::cpu(), None).unwrap();
    scorer.score(&vec![picture.clone(); prompts.len()], 0, prompts).unwrap().column(0)
}

/// README of openai/CLIP: "Label probs: [[0.9927937 0.00421068 0.00299572]]". Computed there on a graphics card in float16.
#[test]
#[ignore = "needs OpenAI's ViT-B/32 and CLIP.png of its repository"]
fn real_weights_clip_vit_b_32_gives_the_probabilities_of_its_readme() {
    let logits = logits("CLIP_VIT_B_32", &picture("CLIP_PNG"), &["a diagram", "a dog", "a cat"]);
    let sum: f64 = logits.iter().map(|logit| logit.exp()).sum();
    for (logit, expected) in logits.iter().zip([0.9927937, 0.00421068, 0.00299572]) {
        let probability = logit.exp() / sum;
        assert!((probability - expected).abs() < 2e-3, "{probability} instead of {expected}");
    }
}

/// transformers, tests/models/clip: logits of COCO val2017 000000039769.
#[test]
#[ignore = "needs OpenAI's ViT-B/32 and picture 39769 of COCO"]
fn real_weights_clip_vit_b_32_gives_the_logits_of_transformers_own_test() {
    let logits = logits("CLIP_VIT_B_32", &picture("COCO_39769"), &["a photo of a cat", "a photo of a dog"]);
    for (logit, expected) in logits.iter().zip([24.5701, 19.3049]) {
        // The picture there is a PNG made from the JPEG; 1e-3 of it in the resize.
        assert!((logit - expected).abs() < 2e-2, "{logit} instead of {expected}");
    }
}

/// README of THUDM/ImageReward: rewards of its four example pictures.
#[test]
#[ignore = "needs the weights of ImageReward and the example pictures of its repository"]
fn real_weights_of_imagereward_give_the_rewards_of_its_readme() {
    let scorer = ScorerSpec { name: "imagereward".into(), path: path("IMAGEREWARD") };
    let scorer = scorer.open(LoadOptions::cpu(), None).unwrap();
    let prompt = "a painting of an ocean with clouds and birds, day time, low depth field effect";
    for (number, expected) in
        (1..=4).zip([0.5811622738838196, 0.2745276093482971, -1.4131819009780884, -2.029569625854492])
    {
        let picture = image::open(path("IMAGEREWARD_PICTURES").join(format!("{number}.webp"))).unwrap().to_rgb8();
        let reward = scorer.score(&[picture], 0, &[prompt]).unwrap().column(0)[0];
        assert!((reward - expected).abs() < 1e-2, "{number}.webp: {reward} instead of {expected}");
    }
}
