//! ImageReward: a BLIP trained on rankings of pictures of one prompt (arXiv 2304.05977).

use crate::scorers::clip::{Preprocessing, Rounding, check_prompt, float32};
use crate::scorers::linear_chain::LinearChain;
use crate::scorers::measure::{Measure, Scope, Table};
use crate::scorers::scorer::{Declaration, Files, Opening, Scorer};
use anyhow::{Context, Result};
use image::RgbImage;
use pipelines::models::BlipModel;
use pipelines::models::blip::open_store;
use pipelines::weights::Loader;
use pipelines::wordpiece::WordPiece;
use tch::{Device, Kind, Tensor};

/// Standardised reward, usually -2 to 2.
pub const IMAGEREWARD: Declaration = Declaration {
    name: "imagereward",
    about: "ImageReward: preference of people for a picture given its prompt, by a BLIP that reads both together",
    measures: MEASURES,
    files: Some(Files {
        form: "folder with model.safetensors and med_config.json of ImageReward, and vocab.txt of bert-base-uncased",
        weights: Some("model.safetensors"),
        others: |path| Ok(vec![path.join("med_config.json"), WordPiece::file(path)]),
    }),
    reads_vae: false,
    example: "tests/golden/scorers/imagereward",
    licence: "Apache-2.0 for the weights of ImageReward; none are bundled",
    citation: "Xu et al. 2023, arXiv 2304.05977; weights THUDM/ImageReward",
    open: |opening| Ok(Box::new(ImageReward::open(opening)?)),
};

const MEASURES: &[Measure] = &[Measure::real("reward", "", None, None, Scope::Prompt)];
/// Longest prompt in tokens, start and end included.
const LENGTH: usize = 35;
/// Mean and standard deviation of the head's numbers in the published code.
const MEAN: f64 = 0.16717362830052426;
const STD: f64 = 1.0333394966054072;

struct ImageReward {
    model: BlipModel,
    head: LinearChain,
    tokenizer: WordPiece,
    device: Device,
}

impl ImageReward {
    fn open(opening: &Opening) -> Result<Self> {
        let (shape, store) = open_store(opening.path)?;
        let loader = Loader::new(store, &float32(opening));
        let model = BlipModel::load(&loader, shape);
        let head = LinearChain::load(&loader.sub("mlp"), shape.width());
        loader.finish()?;
        let length = usize::try_from(model.max_length()).context("max_position_embeddings")?;
        let tokenizer = WordPiece::open(opening.path, length.min(LENGTH))?;
        Ok(Self { model, head, tokenizer, device: opening.options.device })
    }

    /// Features `[1, D]` of one picture with its prompt. Each passes alone: prompts have different lengths, and a picture's
    /// number must not depend on others.
    fn features(&self, picture: &RgbImage, prompt: &str) -> Result<Tensor> {
        let _frozen = tch::no_grad_guard();
        check_prompt(prompt)?;
        let side = u32::try_from(self.model.image_size()).context("size of the pictures of the BLIP")?;
        let pixels = Preprocessing::Crop(Rounding::HalfEven).batch(std::slice::from_ref(picture), side)?;
        let picture = self.model.pictures(&pixels.f_to_device(self.device)?)?;
        let ids = self.tokenizer.encode(prompt)?.f_to_device(self.device)?;
        Ok(self.model.features(&ids, &picture)?)
    }
}

impl Scorer for ImageReward {
    fn measures(&self) -> &[Measure] {
        MEASURES
    }

    fn check(&self, prompt: &str) -> Result<()> {
        check_prompt(prompt)
    }

    fn tokens_cut(&self, prompt: &str) -> Result<usize> {
        Ok(self.tokenizer.tokens_cut(prompt)?)
    }

    fn score(&self, pictures: &[RgbImage], _: i64, prompts: &[&str]) -> Result<Table> {
        let reward = |(picture, prompt): (&RgbImage, &&str)| {
            let number = self.head.forward(&self.features(picture, prompt)?);
            Ok((number.to_kind(Kind::Double).double_value(&[0]) - MEAN) / STD)
        };
        Ok(Table::of_column(pictures.iter().zip(prompts).map(reward).collect::<Result<Vec<f64>>>()?))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use pipelines::weights::LoadOptions;
    use std::path::Path;

    #[test]
    fn features_equal_transformers() {
        let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/scorers/imagereward");
        let opening = Opening { path: &dir, options: LoadOptions::cpu(), model: None };
        let scorer = ImageReward::open(&opening).unwrap();
        let mut worst = 0.0_f64;
        let text = std::fs::read_to_string(dir.join("scores.jsonl")).unwrap();
        let rows = text.lines().map(|line| serde_json::from_str::<serde_json::Value>(line).unwrap());
        for row in rows.filter(|row| row["file"].is_string()) {
            let picture = image::open(dir.join("..").join(row["file"].as_str().unwrap())).unwrap().to_rgb8();
            let features = scorer.features(&picture, row["prompt"].as_str().unwrap()).unwrap();
            let got = Vec::<f64>::try_from(features.view(-1).to_kind(Kind::Double)).unwrap();
            let expected: Vec<f64> = serde_json::from_value(row["features"].clone()).unwrap();
            assert_eq!(got.len(), expected.len());
            for (got, expected) in got.iter().zip(expected) {
                worst = worst.max((got - expected).abs());
            }
        }
        assert!(worst < 1e-5, "{worst:.1e}");
        println!("features differ by {worst:.1e} at most");
    }
}
