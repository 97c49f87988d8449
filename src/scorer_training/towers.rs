//! The CLIP in training: unit features of pictures and texts with their graph, and features that never change.

use super::settings::{Model, Tune};
use super::start::LOGIT_SCALE;
use crate::data::items::ImageRef;
use crate::heads::{Parameters, Preprocessed};
use crate::progress::{Progress, Stop};
use crate::scorers::{Encoder, Opening, Preprocessing, Rounding};
use anyhow::{Context, Result, anyhow};
use image::RgbImage;
use pipelines::models::{ClipModel, clip};
use pipelines::weights::{LoadOptions, Loader};
use std::cell::RefCell;
use std::collections::HashMap;
use std::path::Path;
use tch::{Device, Kind, Tensor};

/// Bytes of preprocessed pictures that stay in memory.
const KEPT_BYTES: usize = 1 << 30;
/// Pictures or texts per pass without a graph.
const PASS: usize = 32;

/// Both towers.
pub struct Towers {
    encoder: Encoder,
    /// All parameters by the names of transformers, sorted.
    pub parameters: Parameters,
    logit_scale: Tensor,
    pub device: Device,
    kept: RefCell<Kept>,
}

/// Preprocessed pictures `[1, 3, S, S]` by number.
#[derive(Default)]
struct Kept {
    pixels: HashMap<usize, Tensor>,
    bytes: usize,
}

impl Towers {
    /// Opens a CLIP in float32.
    ///
    /// # Errors
    /// Missing files; weights of another architecture.
    pub fn open(dir: &Path, model: &Model) -> Result<Self> {
        let device = model.device.open()?;
        let options = LoadOptions { device, kind: Kind::Float };
        let opening = Opening { path: dir, options, model: None };
        let (config, store) = clip::open_store(dir, None).context("model.path")?;
        let loader = Loader::new(store, &options);
        let built = ClipModel::build(&config, &loader);
        let parameters: Parameters = loader.finish().context("model.path")?.into_iter().collect();
        let logit_scale =
            parameters.iter().find(|(name, _)| name == LOGIT_SCALE).map(|(_, tensor)| tensor.shallow_clone());
        let logit_scale = logit_scale.context("the CLIP has no logit_scale")?;
        let preprocessing = match model.preprocessing {
            Preprocessed::Crop => Preprocessing::Crop(Rounding::Down),
            Preprocessed::Bars => Preprocessing::Bars { antialias: true },
        };
        let encoder = Encoder::new(built, &opening, preprocessing)?;
        Ok(Self { encoder, parameters, logit_scale, device, kept: RefCell::default() })
    }

    /// Width P of the features.
    pub fn width(&self) -> i64 {
        self.encoder.clip.width()
    }

    /// exp(logit_scale), a scalar with its graph.
    pub fn scale(&self) -> Tensor {
        self.logit_scale.exp()
    }

    /// Clamps the logarithm of the factor to [0, ln 100].
    pub fn clamp_scale(&self) {
        let _frozen = tch::no_grad_guard();
        let _ = self.logit_scale.shallow_clone().clamp_(0.0, 100f64.ln());
    }

    /// Tokens that are cut off the longest of these prompts.
    ///
    /// # Errors
    /// An empty prompt, or one that cannot be split into tokens.
    pub fn tokens_cut(&self, prompts: &[String]) -> Result<usize> {
        let mut most = 0;
        for prompt in prompts {
            self.encoder.check(prompt)?;
            most = most.max(self.encoder.tokens_cut(prompt)?);
        }
        Ok(most)
    }

    /// Unit features `[n, P]` of pictures.
    ///
    /// # Errors
    /// A picture that cannot be preprocessed.
    pub fn pictures(&self, pictures: &[RgbImage]) -> Result<Tensor> {
        self.of_pixels(&self.encoder.pixels(pictures)?)
    }

    fn of_pixels(&self, pixels: &Tensor) -> Result<Tensor> {
        Ok(unit(&self.encoder.clip.picture_features(pixels)?))
    }

    /// Unit features `[n, P]` of the pictures with these numbers. `paths`: all pictures.
    ///
    /// # Errors
    /// An unreadable picture.
    pub fn files(&self, paths: &[ImageRef], numbers: &[usize]) -> Result<Tensor> {
        let pixels = numbers.iter().map(|number| self.pixels(&paths[*number], *number)).collect::<Result<Vec<_>>>()?;
        self.of_pixels(&Tensor::f_cat(&pixels, 0)?)
    }

    fn pixels(&self, image: &ImageRef, number: usize) -> Result<Tensor> {
        if let Some(pixels) = self.kept.borrow().pixels.get(&number) {
            return Ok(pixels.shallow_clone());
        }
        let picture = image.decoded();
        let picture = picture.map_err(|e| anyhow!("{image}: {e}; restore the picture, or remove its rows"))?;
        let pixels = self.encoder.pixels(&[picture]).with_context(|| image.to_string())?;
        let mut kept = self.kept.borrow_mut();
        let bytes = pixels.numel() * pixels.kind().elt_size_in_bytes();
        if kept.bytes + bytes <= KEPT_BYTES {
            kept.bytes += bytes;
            kept.pixels.insert(number, pixels.shallow_clone());
        }
        Ok(pixels)
    }

    /// Unit features `[n, P]` of texts.
    ///
    /// # Errors
    /// A text that cannot be split into tokens.
    pub fn texts(&self, texts: &[&str]) -> Result<Tensor> {
        Ok(unit(&self.encoder.clip.text_features(&self.encoder.ids_of(texts)?)?))
    }
}

/// Rows of unit length.
fn unit(features: &Tensor) -> Tensor {
    features / features.norm_scalaropt_dim(2.0, [-1].as_slice(), true)
}

/// Features of pictures and prompts by number.
pub struct Features {
    paths: Vec<ImageRef>,
    /// T texts per prompt.
    texts: Vec<Vec<String>>,
    /// All features of frozen towers: `[pictures, P]` and `[prompts, T, P]`.
    frozen: Option<(Tensor, Tensor)>,
}

impl Features {
    /// Computes all features once if the towers are frozen.
    ///
    /// # Errors
    /// `Stopped`; an unreadable picture.
    pub fn new(
        towers: &Towers,
        tune: Tune,
        paths: Vec<ImageRef>,
        texts: Vec<Vec<String>>,
        progress: &dyn Progress,
        stop: &Stop,
    ) -> Result<Self> {
        let mut features = Self { paths, texts, frozen: None };
        if tune == Tune::Head {
            features.frozen = Some(features.encoded(towers, progress, stop)?);
        }
        Ok(features)
    }

    fn encoded(&self, towers: &Towers, progress: &dyn Progress, stop: &Stop) -> Result<(Tensor, Tensor)> {
        let _frozen = tch::no_grad_guard();
        let total = self.paths.len() + self.texts.len();
        progress.begin("encode", 0, total as u64);
        let (mut images, mut texts, mut done) = (Vec::new(), Vec::new(), 0);
        for numbers in (0..self.paths.len()).collect::<Vec<_>>().chunks(PASS) {
            stop.check()?;
            images.push(towers.files(&self.paths, numbers)?);
            done += numbers.len();
            progress.advance(done as u64, "");
        }
        for numbers in (0..self.texts.len()).collect::<Vec<_>>().chunks(PASS) {
            stop.check()?;
            texts.push(self.of_texts(towers, numbers)?);
            done += numbers.len();
            progress.advance(done as u64, "");
        }
        progress.end();
        Ok((Tensor::f_cat(&images, 0)?, Tensor::f_cat(&texts, 0)?))
    }

    /// Unit features `[n, P]` of pictures by number.
    ///
    /// # Errors
    /// An unreadable picture.
    pub fn images(&self, towers: &Towers, numbers: &[usize]) -> Result<Tensor> {
        match &self.frozen {
            Some((images, _)) => rows(images, numbers),
            None => towers.files(&self.paths, numbers),
        }
    }

    /// Unit features `[n, T, P]` of prompts by number; equal ones are passed once.
    ///
    /// # Errors
    /// Errors of libtorch.
    pub fn prompts(&self, towers: &Towers, numbers: &[usize]) -> Result<Tensor> {
        if let Some((_, prompts)) = &self.frozen {
            return rows(prompts, numbers);
        }
        let mut distinct: Vec<usize> = Vec::new();
        let mut places = Vec::with_capacity(numbers.len());
        for number in numbers {
            let place = distinct.iter().position(|known| known == number);
            places.push(place.unwrap_or(distinct.len()));
            if place.is_none() {
                distinct.push(*number);
            }
        }
        rows(&self.of_texts(towers, &distinct)?, &places)
    }

    fn of_texts(&self, towers: &Towers, prompts: &[usize]) -> Result<Tensor> {
        let texts: Vec<&str> =
            prompts.iter().flat_map(|prompt| self.texts[*prompt].iter().map(String::as_str)).collect();
        Ok(towers.texts(&texts)?.f_view([prompts.len() as i64, -1, towers.width()])?)
    }
}

fn rows(all: &Tensor, numbers: &[usize]) -> Result<Tensor> {
    let index: Vec<i64> = numbers.iter().map(|number| *number as i64).collect();
    Ok(all.f_index_select(0, &Tensor::from_slice(&index).to_device(all.device()))?)
}
