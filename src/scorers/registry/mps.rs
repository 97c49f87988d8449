//! MPS: human preference for a picture under a condition (arXiv 2405.14705), by a CLIP and cross-attention.

use crate::scorers::clip::{Encoder, FILES, Preprocessing, Rounding, float32, unit};
use crate::scorers::measure::{Measure, Scope, Table};
use crate::scorers::scorer::{Declaration, Opening, Scorer};
use anyhow::Result;
use image::RgbImage;
use pipelines::models::clip::open_store;
use pipelines::models::{ClipModel, CrossModel, CrossShape};
use pipelines::weights::Loader;
use std::collections::BTreeMap;
use tch::{Kind, Tensor};

/// exp(logit_scale) cos(prompt, picture that has read the prompt's words of a condition), per condition.
pub const MPS: Declaration = Declaration {
    name: "mps",
    about: "MPS: preference of people for a picture given its prompt, overall and in three aspects",
    measures: MEASURES,
    files: Some(FILES),
    reads_vae: false,
    example: "tests/golden/scorers/mps",
    licence: "none stated for the weights of MPS; none are bundled",
    citation: "Zhang et al. 2024, arXiv 2405.14705; weights Kwai-Kolors/MPS",
    open: |opening| Ok(Box::new(Mps::open(opening)?)),
};

const MEASURES: &[Measure] = &[
    Measure::real("overall", "", Some(-100.1), Some(100.1), Scope::Prompt),
    Measure::real("aesthetics", "", Some(-100.1), Some(100.1), Scope::Prompt),
    Measure::real("semantic_alignment", "", Some(-100.1), Some(100.1), Scope::Prompt),
    Measure::real("detail_quality", "", Some(-100.1), Some(100.1), Scope::Prompt),
];
/// Conditions in the order of the measures. The published code has the first; the others are the parts of it that the
/// paper names for each aspect.
const CONDITIONS: [&str; 4] = [
    "light, color, clarity, tone, style, ambiance, artistry, shape, face, hair, hands, limbs, structure, instance, \
     texture, quantity, attributes, position, number, location, word, things.",
    "light, color, clarity, tone, style, ambiance, artistry.",
    "instance, texture, quantity, attributes, position, number, location, word, things.",
    "shape, face, hair, hands, limbs, structure.",
];
/// Words of the prompt count whose similarity to the condition is above this share of the greatest: the value of the
/// published module. Its evaluation scripts have 0.3.
const THRESHOLD: f64 = 0.01;
/// Start of the module's names in the file of the weights.
const CROSS: &str = "cross_model";

struct Mps {
    encoder: Encoder,
    cross: CrossModel,
    /// Positions `[1, L, P]` of every condition.
    conditions: Vec<Tensor>,
    /// [`THRESHOLD`], except in tests.
    threshold: f64,
}

/// A prompt as pictures read it.
struct Read {
    /// Positions `[1, L, P]`.
    positions: Tensor,
    /// Unit features `[1, P]`.
    features: Tensor,
    /// Per condition `[1, 1, L]`: 0 for words that count, else minus infinity.
    masks: Vec<Tensor>,
}

impl Mps {
    fn open(opening: &Opening) -> Result<Self> {
        let (config, store) = open_store(opening.path, Some(CROSS))?;
        let shape = CrossShape::of(&store, CROSS)?;
        let loader = Loader::new(store, &float32(opening));
        let clip = ClipModel::build(&config, &loader);
        let cross = CrossModel::load(&loader.sub(CROSS), shape);
        loader.finish()?;
        let encoder = Encoder::new(clip, opening, Preprocessing::Crop(Rounding::Down))?;
        let _frozen = tch::no_grad_guard();
        let positions = |text: &&str| Ok(encoder.clip.text_positions(&encoder.ids(text)?)?.0);
        let conditions = CONDITIONS.iter().map(positions).collect::<Result<_>>()?;
        Ok(Self { encoder, cross, conditions, threshold: THRESHOLD })
    }

    fn read(&self, prompt: &str) -> Result<Read> {
        self.encoder.check(prompt)?;
        let (positions, features) = self.encoder.clip.text_positions(&self.encoder.ids(prompt)?)?;
        let mask = |condition: &Tensor| {
            let similar = condition.f_matmul(&positions.transpose(1, 2))?.amax([1].as_slice(), true); // [1, 1, L]
            let share = &similar / similar.max();
            let counts = share.gt(self.threshold);
            Ok(similar.zeros_like().f_masked_fill(&counts.logical_not(), f64::NEG_INFINITY)?)
        };
        let masks = self.conditions.iter().map(mask).collect::<Result<_>>()?;
        Ok(Read { positions, features: unit(&features), masks })
    }

    /// Numbers of one picture, from its positions `[1, N, P]`.
    fn rate(&self, picture: &Tensor, read: &Read) -> Result<Vec<f64>> {
        let count = picture.size()[1];
        let one = |mask: &Tensor| {
            let mask = mask.expand([1, count, -1], false);
            let fused = self.cross.forward(picture, &read.positions, &mask)?.select(1, 0); // [1, P]
            let cosine = (unit(&fused) * &read.features).sum(Kind::Double).double_value(&[]);
            Ok(cosine * self.encoder.clip.scale())
        };
        read.masks.iter().map(one).collect()
    }
}

impl Scorer for Mps {
    fn measures(&self) -> &[Measure] {
        MEASURES
    }

    fn check(&self, prompt: &str) -> Result<()> {
        self.encoder.check(prompt)
    }

    fn tokens_cut(&self, prompt: &str) -> Result<usize> {
        self.encoder.tokens_cut(prompt)
    }

    fn score(&self, pictures: &[RgbImage], _: i64, prompts: &[&str]) -> Result<Table> {
        let _frozen = tch::no_grad_guard();
        let mut reads: BTreeMap<&str, Read> = BTreeMap::new();
        let mut rows = Vec::with_capacity(pictures.len());
        let size = self.encoder.batch();
        for (pictures, prompts) in pictures.chunks(size).zip(prompts.chunks(size)) {
            let positions = self.encoder.clip.picture_positions(&self.encoder.pixels(pictures)?)?;
            for (i, prompt) in (0..).zip(prompts.iter().copied()) {
                if !reads.contains_key(prompt) {
                    reads.insert(prompt, self.read(prompt)?);
                }
                if let Some(read) = reads.get(prompt) {
                    rows.push(self.rate(&positions.narrow(0, i, 1), read)?);
                }
            }
        }
        Ok(Table(rows))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use pipelines::weights::LoadOptions;
    use std::path::Path;

    #[test]
    fn words_far_from_a_condition_are_masked() {
        let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/scorers");
        let opening = Opening { path: &dir.join("mps"), options: LoadOptions::cpu(), model: None };
        let mut mps = Mps::open(&opening).unwrap();
        mps.threshold = 0.7;
        let picture = image::open(dir.join("noto-cat.png")).unwrap().to_rgb8();
        let text = std::fs::read_to_string(dir.join("mps/scores.jsonl")).unwrap();
        let rows = text.lines().map(|line| serde_json::from_str::<serde_json::Value>(line).unwrap());
        for row in rows.filter(|row| row["file"] == "noto-cat.png") {
            let got = mps.score(std::slice::from_ref(&picture), 0, &[row["prompt"].as_str().unwrap()]).unwrap();
            for (got, measure) in got.0[0].iter().zip(MEASURES) {
                let expected = row[format!("strict_{}", measure.name)].as_f64().unwrap();
                assert!((got - expected).abs() < 1e-3, "{}: {got} instead of {expected}", measure.name);
            }
        }
    }
}
