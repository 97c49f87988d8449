//! LAION's aesthetic predictors: a small head on the features of a CLIP.

use crate::scorers::clip::{Encoder, Preprocessing, Rounding, other_files};
use crate::scorers::linear_chain::LinearChain;
use crate::scorers::measure::{Measure, Scope, Table};
use crate::scorers::scorer::{Declaration, Files, Opening, Scorer};
use anyhow::{Context, Result, bail};
use image::RgbImage;
use pipelines::models::Linear;
use pipelines::weights::{LoadOptions, Loader, WeightStore};
use std::path::Path;
use tch::{Kind, Tensor};

const HEAD: &str = "head.safetensors";

/// Predicted rating by people, about 1 to 10: the multilayer head (v2) or a linear one (v1), whichever the folder holds.
pub const AESTHETIC: Declaration = Declaration {
    name: "aesthetic",
    about: "LAION's aesthetic predictor, v1 or v2, by its head: rating of a picture, about 1 to 10",
    measures: MEASURES,
    files: Some(Files {
        form: "folder with head.safetensors of the predictor, and model.safetensors and config.json of its CLIP",
        weights: Some(HEAD),
        others: |path| Ok(std::iter::once(path.join("model.safetensors")).chain(other_files(path)).collect()),
    }),
    reads_vae: false,
    example: "tests/golden/scorers/aesthetic",
    licence: "Apache-2.0 (v2) and MIT (v1) for the heads, MIT for OpenAI's CLIP; none are bundled",
    citation: "Schuhmann 2022, improved-aesthetic-predictor (v2) and LAION-AI/aesthetic-predictor (v1)",
    open: |opening| Ok(Box::new(Aesthetic::open(opening)?)),
};

const MEASURES: &[Measure] = &[Measure::real("rating", "", None, None, Scope::Picture)];

/// Layers from unit features of width P to one number.
struct Head(LinearChain);

impl Head {
    /// Reads head.safetensors for features of width `width`.
    ///
    /// # Errors
    /// A missing file; tensors of no published head, or of one for another CLIP.
    fn read(dir: &Path, width: i64) -> Result<Self> {
        let path = dir.join(HEAD);
        let store = WeightStore::from_file(&path)
            .with_context(|| format!("the head of the predictor ({HEAD}, see docs/scorers.md)"))?;
        let (first, is_linear) = match (store.shape("layers.0.weight"), store.shape("weight")) {
            (Some(first), _) => (first, false),
            (None, Some(first)) => (first, true),
            (None, None) => bail!(
                "{}: expected a head with layers.0.weight (v2) or weight (v1), found {}",
                path.display(),
                store.names().next().unwrap_or("nothing")
            ),
        };
        if first.get(1).is_some_and(|found| *found != width) {
            bail!(
                "{}: this head reads features of width {}, and those of the CLIP beside it have {width}: v2 and the v1 \
                 head vit_l_14 need ViT-L/14, the v1 heads vit_b_32 and vit_b_16 theirs",
                path.display(),
                first[1]
            );
        }
        let loader = Loader::new(store, &LoadOptions::cpu());
        let layers = match is_linear {
            true => LinearChain(vec![Linear::load(&loader, width, 1, true)]),
            false => LinearChain::load(&loader, width),
        };
        loader.finish()?;
        Ok(Self(layers))
    }

    /// `[n, P] -> [n]` float64 of unit features.
    fn forward(&self, features: &Tensor) -> Tensor {
        self.0.forward(&features.to_kind(Kind::Double))
    }
}

struct Aesthetic {
    encoder: Encoder,
    head: Head,
}

impl Aesthetic {
    fn open(opening: &Opening) -> Result<Self> {
        let encoder = Encoder::open(opening, Preprocessing::Crop(Rounding::HalfEven))?;
        let head = Head::read(opening.path, encoder.clip.width())?;
        Ok(Self { encoder, head })
    }
}

impl Scorer for Aesthetic {
    fn measures(&self) -> &[Measure] {
        MEASURES
    }

    /// The head computes in float64 on one picture at a time, which costs nothing beside the CLIP.
    fn score(&self, pictures: &[RgbImage], _: i64, _: &[&str]) -> Result<Table> {
        let mut ratings = Vec::with_capacity(pictures.len());
        for batch in pictures.chunks(self.encoder.batch()) {
            let features = self.encoder.pictures(batch)?;
            let rows = (0..features.size()[0]).map(|i| self.head.forward(&features.narrow(0, i, 1)).double_value(&[0]));
            ratings.extend(rows);
        }
        Ok(Table::of_column(ratings))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::scorers::linear_chain::LAYERS;
    use sha2::{Digest, Sha256};

    /// A parameter from a generator seeded by its name, rounded to float16: `draw` in make_clip_scorers.py.
    fn draw(name: &str, shape: &[i64]) -> Tensor {
        let digest = Sha256::digest(name.as_bytes());
        let seed = digest[..8].iter().rev().fold(0_u64, |seed, byte| (seed << 8) | u64::from(*byte)) >> 1;
        let x = diffpref_native::Generator::cpu(seed).randn(shape);
        let inputs: i64 = shape[1..].iter().product();
        let x = if shape.len() == 1 { x * 0.2 } else { x * (1.5 / (inputs as f64).sqrt()) };
        x.to_kind(Kind::Half).to_kind(Kind::Float)
    }

    #[test]
    fn a_head_of_v2_equals_torch() {
        let dir = tempfile::tempdir().unwrap();
        let mut inputs = 24;
        let mut tensors = Vec::new();
        for (name, outputs) in LAYERS {
            for (part, shape) in [("weight", vec![outputs, inputs]), ("bias", vec![outputs])] {
                let name = format!("{name}.{part}");
                tensors.push((name.clone(), draw(&name, &shape)));
            }
            inputs = outputs;
        }
        pipelines::weights::write_safetensors(&dir.path().join(HEAD), &tensors, &[]).unwrap();
        let features = crate::scorers::clip::unit(&draw("features", &[5, 24]));
        let got = Vec::<f64>::try_from(Head::read(dir.path(), 24).unwrap().forward(&features)).unwrap();
        let golden = include_str!("../../../tests/golden/scorers/aesthetic/heads.json");
        let expected: Vec<f64> = serde_json::from_str(golden).unwrap();
        assert_eq!(got.len(), expected.len());
        for (got, expected) in got.iter().zip(expected) {
            assert!((got - expected).abs() < 1e-4, "{got} instead of {expected}");
        }
    }

    /// Unit embeddings by ViT-L/14 of pictures with ratings 0 to 9, from LAION-AI/aesthetic-predictor; the numbers were
    /// computed with torch in float32.
    #[test]
    #[ignore = "needs LAION's heads and embeddings: run tests/real-weights.sh"]
    fn real_weights_of_laions_heads_give_their_numbers_on_published_embeddings() {
        let path = |variable: &str| {
            let value = std::env::var_os(variable);
            std::path::PathBuf::from(
                value.unwrap_or_else(|| panic!("{variable} is not set: run tests/real-weights.sh")),
            )
        };
        let expected: [(&str, [f64; 10]); 2] = [
            ("AESTHETIC_V1", [-2.4579, -0.1379, 1.8951, 3.5849, 5.0997, 6.4701, 7.787, 9.048, 10.2264, 11.3044]),
            ("AESTHETIC_V2", [1.6555, 2.3593, 3.0698, 3.6725, 4.238, 4.701, 5.0731, 5.3654, 5.5767, 5.7468]),
        ];
        for (folder, expected) in expected {
            let head = Head::read(&path(folder), 768).unwrap();
            for (rating, expected) in expected.iter().enumerate() {
                let file = path("AESTHETIC_EMBEDDINGS").join(format!("rating{rating}.npy"));
                let features = Tensor::read_npy(file).unwrap().view([1, 768]);
                let got = head.forward(&features).double_value(&[0]);
                assert!((got - expected).abs() < 1e-3, "{folder}: {got} instead of {expected}");
            }
        }
    }
}
