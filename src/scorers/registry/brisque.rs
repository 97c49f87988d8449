//! BRISQUE: distortion of a picture without a reference, from natural-scene statistics and a trained regression.

use crate::scorers::brisque::{STATISTICS, statistics};
use crate::scorers::measure::{Better, Measure, Scope, Table};
use crate::scorers::scorer::{Declaration, Files, Scorer};
use anyhow::{Context, Result, bail, ensure};
use image::RgbImage;
use serde::Deserialize;
use std::path::Path;

const WEIGHTS: &str = "svm.txt";
const RANGES: &str = "normalize.json";

/// Predicted human opinion of distortion: about 0 to 100 for photographs.
pub const BRISQUE: Declaration = Declaration {
    name: "brisque",
    about: "Distortion (noise, blur, blocks) by natural-scene statistics; lower is better",
    measures: MEASURES,
    files: Some(Files {
        form: "folder with svm.txt and normalize.json",
        weights: Some(WEIGHTS),
        others: |path| Ok(vec![path.join(RANGES)]),
    }),
    reads_vae: false,
    example: "assets/scorers/brisque",
    licence: "Apache-2.0 (assets/NOTICE)",
    citation: "Mittal, Moorthy and Bovik 2012, doi 10.1109/TIP.2012.2214050; model of the Python package brisque 0.2.0",
    open: |opening| Ok(Box::new(Brisque::open(opening.path)?)),
};

const MEASURES: &[Measure] = &[Measure::number("distortion", "", (None, None), Better::Lower, Scope::Picture)];

/// Coefficient and position.
type SupportVector = (f64, [f64; STATISTICS]);

/// Epsilon support vector regression with a radial kernel, on scaled statistics.
struct Brisque {
    gamma: f64,
    rho: f64,
    vectors: Vec<SupportVector>,
    ranges: Ranges,
}

/// Ends of every statistic over the training pictures, which are scaled to -1 and 1.
#[derive(Deserialize)]
struct Ranges {
    min_: Vec<f64>,
    max_: Vec<f64>,
}

impl Brisque {
    fn open(dir: &Path) -> Result<Self> {
        let text = |name: &str| {
            let file = dir.join(name);
            std::fs::read_to_string(&file).with_context(|| {
                format!("cannot read {}; brisque is a folder with svm.txt and normalize.json", file.display())
            })
        };
        let ranges: Ranges = serde_json::from_str(&text(RANGES)?)
            .with_context(|| format!("{}: expected min_ and max_", dir.join(RANGES).display()))?;
        let ends = (ranges.min_.len(), ranges.max_.len());
        ensure!(
            ends == (STATISTICS, STATISTICS),
            "{}: expected {STATISTICS} numbers in min_ and in max_, found {} and {}",
            dir.join(RANGES).display(),
            ends.0,
            ends.1
        );
        let (gamma, rho, vectors) = parsed(&text(WEIGHTS)?).with_context(|| dir.join(WEIGHTS).display().to_string())?;
        Ok(Self { gamma, rho, vectors, ranges })
    }

    fn distortion(&self, picture: &RgbImage) -> Result<f64> {
        let mut x = statistics(picture)?;
        for (x, (low, high)) in x.iter_mut().zip(self.ranges.min_.iter().zip(&self.ranges.max_)) {
            *x = -1.0 + 2.0 / (high - low) * (*x - low);
        }
        let kernel = |vector: &[f64; STATISTICS]| {
            let distance: f64 = vector.iter().zip(&x).map(|(a, b)| (a - b).powi(2)).sum();
            (-self.gamma * distance).exp()
        };
        Ok(self.vectors.iter().map(|(coefficient, vector)| coefficient * kernel(vector)).sum::<f64>() - self.rho)
    }
}

/// gamma, rho and the support vectors of a libsvm model file.
fn parsed(text: &str) -> Result<(f64, f64, Vec<SupportVector>)> {
    let (head, body) = text.split_once("SV\n").context("expected a libsvm model, found no line SV")?;
    let entry = |name: &str| {
        let value = head.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
        value.with_context(|| format!("expected a libsvm model, found no line {name}"))
    };
    if (entry("svm_type")?, entry("kernel_type")?) != ("epsilon_svr", "rbf") {
        bail!(
            "expected an epsilon_svr with an rbf kernel, found {} with {}",
            entry("svm_type")?,
            entry("kernel_type")?
        );
    }
    let number = |name: &str| entry(name)?.trim().parse::<f64>().with_context(|| format!("{name}: not a number"));
    let vectors = body.lines().filter(|line| !line.trim().is_empty()).map(vector).collect::<Result<_>>()?;
    Ok((number("gamma")?, number("rho")?, vectors))
}

/// A line `coefficient index:value ..`; indices count from 1, absent ones are 0.
fn vector(line: &str) -> Result<SupportVector> {
    let mut position = [0.0; STATISTICS];
    let mut words = line.split_whitespace();
    let coefficient = words.next().context("an empty support vector")?.parse()?;
    for word in words {
        let (index, value) = word.split_once(':').with_context(|| format!("expected index:value, found {word}"))?;
        let index: usize = index.parse()?;
        let place = index.checked_sub(1).and_then(|i| position.get_mut(i));
        *place.with_context(|| format!("expected an index from 1 to {STATISTICS}, found {index}"))? = value.parse()?;
    }
    Ok((coefficient, position))
}

impl Scorer for Brisque {
    fn measures(&self) -> &[Measure] {
        MEASURES
    }

    fn score(&self, pictures: &[RgbImage], _: i64, prompts: &[&str]) -> Result<Table> {
        let one = |(picture, prompt): (&RgbImage, &&str)| {
            self.distortion(picture).with_context(|| format!("the picture of the prompt {prompt:?}"))
        };
        let numbers: Result<Vec<f64>> = pictures.iter().zip(prompts).map(one).collect();
        Ok(Table::of_column(numbers?))
    }
}
