//! Style and content by the nearest drawing among all sizes, places and grounds: nothing is learnt.

use crate::keys::nearest;
use crate::scorers::composites::{Composites, Found};
use crate::scorers::measure::{Better, Measure, Scope, Table};
use crate::scorers::scorer::{Declaration, Files, Scorer};
use crate::scorers::sheets::{FORM, Sheets};
use anyhow::{Result, bail};
use image::RgbImage;

/// Nearest composite of a drawing and the picture's own ground.
pub const NEAREST_DRAWING: Declaration = Declaration {
    name: "nearest_drawing",
    about: "Style and name of the nearest drawing over a plain ground, and the distance to it",
    measures: MEASURES,
    files: Some(Files { form: FORM, weights: None, others: |path| Ok(Sheets::files(path)) }),
    reads_vae: false,
    example: "assets/testbed",
    licence: "Apache-2.0, MIT and CC-BY-4.0 for the bundled drawings (assets/NOTICE)",
    citation: "none: Euclidean distance",
    open: |opening| Ok(Box::new(NearestDrawing(Composites::read(opening.path)?))),
};

const MEASURES: &[Measure] = &[
    Measure::real("flatness", "", Some(-1.0), Some(1.0), Scope::Picture),
    Measure::decision("flat_share", Scope::Picture),
    Measure::decision("content_accuracy", Scope::Prompt),
    Measure::number("off_manifold", "", (Some(0.0), Some(1.0)), Better::Lower, Scope::Picture),
];

struct NearestDrawing(Composites);

impl Scorer for NearestDrawing {
    fn measures(&self) -> &[Measure] {
        MEASURES
    }

    fn check(&self, prompt: &str) -> Result<()> {
        if self.0.names().iter().any(|name| name == prompt) {
            return Ok(());
        }
        let known: Vec<&str> = self.0.names().iter().map(String::as_str).collect();
        let hint = nearest(prompt, &known).map_or(String::new(), |name| format!(", did you mean \"{name}\"?"));
        bail!("there is no drawing of the prompt \"{prompt}\"{hint}")
    }

    fn score(&self, pictures: &[RgbImage], _: i64, prompts: &[&str]) -> Result<Table> {
        let found = self.0.nearest(pictures)?;
        let row = |(found, prompt): (Found, &&str)| {
            let right = self.0.names()[found.name] == **prompt;
            vec![found.flatness, f64::from(found.flat), f64::from(right), found.off_manifold]
        };
        Ok(Table(found.into_iter().zip(prompts).map(row).collect()))
    }
}
