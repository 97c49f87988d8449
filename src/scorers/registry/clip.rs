//! CLIPScore: cosine of picture and prompt in the space of a CLIP (arXiv 2104.08718).

use crate::scorers::clip::{FILES, Factor, Preprocessing, Rounding, Similarity};
use crate::scorers::measure::{Measure, Scope};
use crate::scorers::scorer::Declaration;

/// 100 cos(picture, prompt), not clamped at 0. Usual: 30 to 36 by ViT-H/14.
pub const CLIP: Declaration = Declaration {
    name: "clip",
    about: "CLIPScore: 100 times the cosine of picture and prompt by any CLIP",
    measures: MEASURES,
    files: Some(FILES),
    reads_vae: false,
    example: "tests/golden/scorers/clip",
    licence: "MIT for the weights of OpenAI and LAION; none are bundled",
    citation: "Hessel et al. 2021, arXiv 2104.08718; Radford et al. 2021, arXiv 2103.00020",
    open: |opening| {
        let preprocessing = Preprocessing::Crop(Rounding::Down);
        Ok(Box::new(Similarity::open(opening, preprocessing, Factor::Hundred, MEASURES)?))
    },
};

const MEASURES: &[Measure] = &[Measure::real("clip_score", "", Some(-100.0), Some(100.0), Scope::Prompt)];
