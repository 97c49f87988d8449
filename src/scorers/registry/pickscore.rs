//! PickScore: a CLIP trained on choices between two pictures of one prompt (arXiv 2305.01569).

use crate::scorers::clip::{FILES, Factor, Preprocessing, Rounding, Similarity};
use crate::scorers::measure::{Measure, Scope};
use crate::scorers::scorer::Declaration;

/// exp(logit_scale) cos(picture, prompt). P(a preferred to b) = sigmoid(score a - score b).
pub const PICKSCORE: Declaration = Declaration {
    name: "pickscore",
    about: "PickScore: preference of people for a picture given its prompt; pictures of one prompt are compared",
    measures: MEASURES,
    files: Some(FILES),
    reads_vae: false,
    example: "tests/golden/scorers/clip",
    licence: "MIT for the weights of PickScore v1; none are bundled",
    citation: "Kirstain et al. 2023, arXiv 2305.01569; weights yuvalkirstain/PickScore_v1",
    open: |opening| {
        let preprocessing = Preprocessing::Crop(Rounding::Down);
        Ok(Box::new(Similarity::open(opening, preprocessing, Factor::OfWeights, MEASURES)?))
    },
};

/// The factor is at most 100: training clamps it there.
const MEASURES: &[Measure] = &[Measure::real("pickscore", "", Some(-100.1), Some(100.1), Scope::Prompt)];
