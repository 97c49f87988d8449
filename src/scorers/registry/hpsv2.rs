//! HPSv2 and v2.1: a CLIP trained on rankings of pictures of one prompt (arXiv 2306.09341). The versions differ in
//! weights only.

use crate::scorers::clip::{FILES, Factor, Preprocessing, Similarity, other_files};
use crate::scorers::measure::{Measure, Scope};
use crate::scorers::scorer::{Declaration, Files};
use anyhow::{Context, Result};
use serde::Deserialize;
use std::path::{Path, PathBuf};

/// 100 cos(picture, prompt). Numbers of v2 and v2.1 are not comparable.
pub const HPSV2: Declaration = Declaration {
    name: "hpsv2",
    about: "HPSv2 or v2.1, by their weights: preference of people for a picture given its prompt",
    measures: MEASURES,
    files: Some(Files { others: |path| Ok(files(path)), ..FILES }),
    reads_vae: false,
    example: "tests/golden/scorers/hpsv2",
    licence: "Apache-2.0 for the weights of HPSv2; none are bundled",
    citation: "Wu et al. 2023, arXiv 2306.09341; weights xswu/HPSv2",
    open: |opening| {
        let preprocessing = Preprocessing::Bars { antialias: antialias(opening.path)? };
        Ok(Box::new(Similarity::open(opening, preprocessing, Factor::Hundred, MEASURES)?))
    },
};

const MEASURES: &[Measure] = &[Measure::real("hpsv2", "", Some(-100.0), Some(100.0), Scope::Prompt)];
const RESIZE: &str = "resize.json";

/// `resize.json`, optional: `{"antialias": false}` resizes as torchvision did before 0.17, and so as in the published
/// tables of 2023.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Resize {
    antialias: bool,
}

fn antialias(dir: &Path) -> Result<bool> {
    let file = dir.join(RESIZE);
    if !file.is_file() {
        return Ok(true);
    }
    let text = std::fs::read_to_string(&file).with_context(|| format!("cannot read {}", file.display()))?;
    let resize: Resize = serde_json::from_str(&text)
        .with_context(|| format!("{}: expected {{\"antialias\": true}} or false", file.display()))?;
    Ok(resize.antialias)
}

fn files(dir: &Path) -> Vec<PathBuf> {
    let resize = Some(dir.join(RESIZE)).filter(|file| file.is_file());
    other_files(dir).into_iter().chain(resize).collect()
}
