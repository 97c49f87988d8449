//! A scorer by `diffpref train-scorer`: a CLIP and the head that was trained on it.

use crate::heads::{FILE, Head, Input, Preprocessed, Saved, WEIGHTS};
use crate::scorers::clip::{Encoder, FILES, Preprocessing, Rounding, other_files};
use crate::scorers::measure::{Better, Measure, Range, Scope, Table};
use crate::scorers::scorer::{Declaration, Files, Opening, Scorer};
use anyhow::{Context, Result, ensure};
use image::RgbImage;
use std::path::{Path, PathBuf};
use tch::{Device, Kind, Tensor};

/// Measures are those of its head, one per user for a mixture of users.
pub const TRAINED: Declaration = Declaration {
    name: "trained",
    about: "A scorer that was trained by `diffpref train-scorer`, by its own head",
    measures: &[],
    files: Some(Files { form: "folder final/ of `diffpref train-scorer`", others: |path| Ok(files(path)), ..FILES }),
    reads_vae: false,
    example: "tests/golden/scorers/clip",
    licence: "that of its CLIP and of its data",
    citation: "docs/train-scorer.md names the paper of each head",
    open: |opening| Ok(Box::new(Trained::open(opening)?)),
};

fn files(dir: &Path) -> Vec<PathBuf> {
    let own = [FILE, WEIGHTS].map(|name| dir.join(name)).into_iter().filter(|file| file.is_file());
    other_files(dir).into_iter().chain(own).collect()
}

struct Trained {
    encoder: Encoder,
    head: Box<dyn Head>,
    measures: Vec<Measure>,
}

impl Trained {
    fn open(opening: &Opening) -> Result<Self> {
        let dir = opening.path;
        let saved = Saved::read(dir)?.with_context(|| {
            format!("{} has no {FILE}: expected the folder final/ of `diffpref train-scorer`", dir.display())
        })?;
        let preprocessing = match saved.preprocessing {
            Preprocessed::Crop => Preprocessing::Crop(Rounding::Down),
            Preprocessed::Bars => Preprocessing::Bars { antialias: true },
        };
        let encoder = Encoder::open_towers(opening, preprocessing)?;
        ensure!(
            encoder.clip.width() == saved.width,
            "{}: the CLIP has features of width {}, its {FILE} expects {}: both must come from one training",
            dir.display(),
            encoder.clip.width(),
            saved.width
        );
        let head = saved.head(dir, Device::Cpu)?;
        let measures = measures(head.as_ref());
        Ok(Self { encoder, head, measures })
    }

    /// Outputs `[n, C]` float32 of pictures for the user of this number.
    fn outputs(&self, pictures: &[RgbImage], prompts: &[&str], user: i64) -> Result<Tensor> {
        let _frozen = tch::no_grad_guard();
        let images = self.encoder.pictures(pictures)?.to_kind(Kind::Float);
        let texts: Vec<String> = prompts.iter().flat_map(|prompt| self.head.texts(prompt)).collect();
        let texts = self.encoder.prompts(&texts.iter().map(String::as_str).collect::<Vec<_>>())?.to_kind(Kind::Float);
        let n = pictures.len() as i64;
        let texts = texts.f_view([n, -1, self.encoder.clip.width()])?;
        let users = Tensor::full([n], user, (Kind::Int64, Device::Cpu));
        let input = |row: i64| {
            let (image, text) = (images.narrow(0, row, 1), texts.narrow(0, row, 1));
            let scale = Tensor::from(self.encoder.clip.scale() as f32);
            let users = (!self.head.users().is_empty()).then(|| users.narrow(0, row, 1));
            self.head.outputs(&Input { images: &image, prompts: &text, scale: &scale, users: users.as_ref() })
        };
        // One by one: numbers must not depend on the batch.
        Ok(Tensor::f_cat(&(0..n).map(input).collect::<Vec<_>>(), 0)?)
    }
}

/// Columns of the table: the head's measures, or one per user.
fn measures(head: &dyn Head) -> Vec<Measure> {
    let measure = |name: &str, better| Measure {
        name: name.to_string().into(),
        unit: "".into(),
        range: Range::Real { min: None, max: None },
        better,
        scope: Scope::Prompt,
    };
    if !head.users().is_empty() {
        let users = head.users().iter().map(|user| measure(user, Better::Higher));
        return users.collect();
    }
    let own = head.measures();
    own.iter().map(|own| measure(&own.name, if own.higher { Better::Higher } else { Better::Neither })).collect()
}

impl Scorer for Trained {
    fn measures(&self) -> &[Measure] {
        &self.measures
    }

    fn check(&self, prompt: &str) -> Result<()> {
        self.encoder.check(prompt)
    }

    fn tokens_cut(&self, prompt: &str) -> Result<usize> {
        self.encoder.tokens_cut(prompt)
    }

    fn score(&self, pictures: &[RgbImage], _: i64, prompts: &[&str]) -> Result<Table> {
        ensure!(
            !self.measures.is_empty(),
            "its head compares two pictures and does not rate one: take `diffpref score --compare trained=FOLDER`"
        );
        if pictures.is_empty() {
            return Ok(Table::default());
        }
        let users = self.head.users().len().max(1) as i64;
        let columns = (0..users).map(|user| Ok(self.head.numbers(&self.outputs(pictures, prompts, user)?)));
        let numbers = Tensor::f_cat(&columns.collect::<Result<Vec<_>>>()?, 1)?.to_kind(Kind::Double);
        let rows = (0..pictures.len() as i64).map(|row| Ok(Vec::<f64>::try_from(numbers.select(0, row))?));
        Ok(Table(rows.collect::<Result<_>>()?))
    }

    fn compare(&self, first: &[RgbImage], second: &[RgbImage], prompts: &[&str]) -> Result<Vec<f64>> {
        ensure!(
            self.head.users().len() <= 1 && self.head.dimensions().is_empty(),
            "it has users or dimensions, and a comparison has one answer: score pictures, and take the measure of one"
        );
        if first.is_empty() {
            return Ok(Vec::new());
        }
        let outputs = [self.outputs(first, prompts, 0)?, self.outputs(second, prompts, 0)?];
        let probabilities = self.head.probabilities(&Tensor::f_stack(&outputs, 1)?);
        Ok(Vec::<f64>::try_from(probabilities.to_kind(Kind::Double))?)
    }
}
