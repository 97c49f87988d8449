//! A CLIP with its tokenizer and its preprocessing: unit features of pictures and prompts.

use super::pictures::Preprocessing;
use crate::heads::Saved;
use crate::scorers::scorer::{Files, Opening};
use anyhow::{Context, Result, ensure};
use image::RgbImage;
use pipelines::families::clip_tokenizer;
use pipelines::models::{ClipModel, clip};
use pipelines::text::Tokenizer;
use pipelines::weights::{LoadOptions, Loader};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use tch::{Device, Kind, Tensor};

/// Description of a folder with a CLIP.
pub const FORM: &str = "folder with model.safetensors and config.json of a CLIP";
pub const FILES: Files = Files { form: FORM, weights: Some("model.safetensors"), others: |path| Ok(other_files(path)) };
/// Files beside the weights, each optional.
const OTHERS: [&str; 7] = [
    "config.json",
    "open_clip_config.json",
    "tokenizer.json",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "vocab.json",
    "merges.txt",
];
/// Rows per pass on a graphics card. On the CPU each row is passed alone: a batch is no faster there, and would change the
/// last bits of its numbers.
const BATCH: usize = 16;

/// Files beside the weights that affect features.
pub fn other_files(dir: &Path) -> Vec<PathBuf> {
    OTHERS.iter().map(|name| dir.join(name)).filter(|file| file.is_file()).collect()
}

pub struct Encoder {
    pub clip: ClipModel,
    tokenizer: Tokenizer,
    preprocessing: Preprocessing,
    device: Device,
}

impl Encoder {
    /// Reads the folder of a CLIP.
    ///
    /// # Errors
    /// Missing files; weights of another architecture.
    pub fn open(opening: &Opening, preprocessing: Preprocessing) -> Result<Self> {
        refuse_head(opening.path)?;
        Self::open_towers(opening, preprocessing)
    }

    /// [`open`](Self::open) for a folder whose trained head the caller reads.
    ///
    /// # Errors
    /// Missing files; weights of another architecture.
    pub fn open_towers(opening: &Opening, preprocessing: Preprocessing) -> Result<Self> {
        let (config, store) = clip::open_store(opening.path, None)?;
        let loader = Loader::new(store, &float32(opening));
        let clip = ClipModel::build(&config, &loader);
        loader.finish()?;
        Self::new(clip, opening, preprocessing)
    }

    /// A loaded CLIP with the tokenizer of its folder, or the published one.
    ///
    /// # Errors
    /// A damaged tokenizer.
    pub fn new(clip: ClipModel, opening: &Opening, preprocessing: Preprocessing) -> Result<Self> {
        let own = ["tokenizer.json", "vocab.json"].iter().any(|name| opening.path.join(name).is_file());
        let tokenizer = match own {
            true => Tokenizer::open(opening.path, clip.max_length())?,
            false => clip_tokenizer(clip.max_length())?,
        };
        Ok(Self { clip, tokenizer, preprocessing, device: opening.options.device })
    }

    /// Refuses a prompt without a word.
    pub fn check(&self, prompt: &str) -> Result<()> {
        check_prompt(prompt)
    }

    /// Tokens of a prompt that are cut off.
    pub fn tokens_cut(&self, prompt: &str) -> Result<usize> {
        Ok(self.tokenizer.tokens_cut(prompt)?)
    }

    /// Token ids `[n, L]` of texts on the device.
    ///
    /// # Errors
    /// A text that cannot be split into tokens.
    pub fn ids_of(&self, texts: &[&str]) -> Result<Tensor> {
        Ok(self.tokenizer.encode(texts)?.f_to_device(self.device)?)
    }

    /// Token ids `[1, L]` of a prompt on the device.
    pub fn ids(&self, prompt: &str) -> Result<Tensor> {
        self.ids_of(&[prompt])
    }

    /// Pictures `[B, 3, S, S]` on the device.
    pub fn pixels(&self, pictures: &[RgbImage]) -> Result<Tensor> {
        let side = u32::try_from(self.clip.image_size()).context("image_size of the CLIP")?;
        Ok(self.preprocessing.batch(pictures, side)?.f_to_device(self.device)?)
    }

    /// Rows per pass.
    pub fn batch(&self) -> usize {
        if self.device == Device::Cpu { 1 } else { BATCH }
    }

    /// Unit features `[n, P]` float64 of pictures on the CPU.
    pub fn pictures(&self, pictures: &[RgbImage]) -> Result<Tensor> {
        let _frozen = tch::no_grad_guard();
        let pass = |batch: &[RgbImage]| Ok(unit(&self.clip.picture_features(&self.pixels(batch)?)?));
        let passes = pictures.chunks(self.batch()).map(pass).collect::<Result<Vec<_>>>()?;
        Ok(Tensor::f_cat(&passes, 0)?)
    }

    /// Unit features `[n, P]` float64 of prompts on the CPU. Equal prompts are passed once.
    pub fn prompts(&self, prompts: &[&str]) -> Result<Tensor> {
        let _frozen = tch::no_grad_guard();
        let mut places: BTreeMap<&str, i64> = BTreeMap::new();
        let mut distinct: Vec<&str> = Vec::new();
        let mut index: Vec<i64> = Vec::new();
        for prompt in prompts.iter().copied() {
            self.check(prompt)?;
            let place = *places.entry(prompt).or_insert_with(|| {
                distinct.push(prompt);
                distinct.len() as i64 - 1
            });
            index.push(place);
        }
        let pass = |batch: &[&str]| Ok(unit(&self.clip.text_features(&self.ids_of(batch)?)?));
        let passes = distinct.chunks(self.batch()).map(pass).collect::<Result<Vec<_>>>()?;
        Ok(Tensor::f_cat(&passes, 0)?.f_index_select(0, &Tensor::from_slice(&index))?)
    }
}

/// Refuses a prompt without a word.
///
/// # Errors
/// An empty prompt, or one of white space.
pub fn check_prompt(prompt: &str) -> Result<()> {
    ensure!(
        !prompt.trim().is_empty(),
        "the prompt is empty, and this scorer compares pictures with prompts. Give every picture a prompt, or take a \
         scorer that does not read prompts"
    );
    Ok(())
}

/// Refuses a folder whose numbers need a trained head.
fn refuse_head(dir: &Path) -> Result<()> {
    let Some(saved) = Saved::read(dir)? else { return Ok(()) };
    ensure!(
        saved.head_is_optional(),
        "{} holds a scorer with the head \"{}\", and its CLIP alone is no scorer: take trained={}",
        dir.display(),
        saved.objective(),
        dir.display()
    );
    Ok(())
}

/// float32 whatever the options say: in half precision cosines differ in the third digit, and so do pictures of one
/// prompt.
pub fn float32(opening: &Opening) -> LoadOptions {
    LoadOptions { kind: Kind::Float, ..opening.options }
}

/// Rows of unit length, float64 on the CPU.
pub fn unit(features: &Tensor) -> Tensor {
    let features = features.to_kind(Kind::Double).to_device(Device::Cpu);
    let length = features.norm_scalaropt_dim(2.0, [-1].as_slice(), true);
    features / length
}
