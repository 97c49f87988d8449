//! Pictures with captions, for the contrastive objective: rows of a file, or drawings over drawn grounds.

use crate::data::{decode, draws};
use crate::scorers::Sheets;
use anyhow::{Context, Result, anyhow, ensure};
use diffpref_native::Generator;
use image::RgbImage;
use serde::Deserialize;
use std::path::{Path, PathBuf};
use tch::{Kind, Tensor};

/// Shares of the picture's width that a drawing may have.
const SIZES: (f64, f64) = (0.70, 0.88);
/// Largest shift of a drawing from the centre, as a share of the width.
const SHIFT: f64 = 0.03;

/// The pictures.
pub enum Captions {
    Rows { pictures: Vec<PathBuf>, captions: Vec<String> },
    Drawings(Sheets),
}

#[derive(Deserialize)]
struct Row {
    prompt: String,
    image: PathBuf,
}

impl Captions {
    /// Reads a .jsonl file of rows with `prompt` and `image`, or a folder of drawings (names.jsonl and drawings/).
    ///
    /// # Errors
    /// Another form; missing pictures; no rows.
    pub fn read(path: &Path) -> Result<Self> {
        if path.is_dir() {
            return Ok(Self::Drawings(Sheets::read(path).context("data.path")?));
        }
        let text =
            std::fs::read_to_string(path).with_context(|| format!("data.path: cannot read {}", path.display()))?;
        let folder = path.parent().unwrap_or(Path::new(""));
        let (mut pictures, mut captions) = (Vec::new(), Vec::new());
        for (line, text) in text.lines().enumerate().filter(|(_, text)| !text.trim().is_empty()) {
            let row: Row = serde_json::from_str(text).with_context(|| {
                format!("{}:{}: captions are rows of `prompt` and `image`", path.display(), line + 1)
            })?;
            let picture = folder.join(row.image);
            ensure!(picture.is_file(), "{}:{}: there is no picture {}", path.display(), line + 1, picture.display());
            pictures.push(picture);
            captions.push(row.prompt);
        }
        ensure!(!pictures.is_empty(), "{}: no rows; captions are rows of `prompt` and `image`", path.display());
        Ok(Self::Rows { pictures, captions })
    }

    pub fn len(&self) -> usize {
        match self {
            Self::Rows { pictures, .. } => pictures.len(),
            Self::Drawings(sheets) => sheets.drawings.size()[0] as usize,
        }
    }

    /// Caption of picture `i`.
    pub fn caption(&self, i: usize) -> &str {
        match self {
            Self::Rows { captions, .. } => &captions[i],
            Self::Drawings(sheets) => &sheets.names[i % sheets.names.len()],
        }
    }

    /// All files that pictures are made of.
    pub fn files(&self, path: &Path) -> Vec<PathBuf> {
        match self {
            Self::Rows { .. } => vec![path.to_path_buf()],
            Self::Drawings(_) => Sheets::files(path),
        }
    }

    /// Picture `i` at one place of the run. Drawings get another ground, size and place there: stream `compose`, id
    /// `position`.
    ///
    /// # Errors
    /// An unreadable picture.
    pub fn picture(&self, i: usize, seed: u64, position: u64) -> Result<RgbImage> {
        match self {
            Self::Rows { pictures, .. } => {
                let path = &pictures[i];
                decode::read(path)
                    .and_then(|bytes| decode::decode(&bytes))
                    .map_err(|e| anyhow!("{}: {e}", path.display()))
            }
            Self::Drawings(sheets) => {
                let mut generator = Generator::cpu(draws::key(seed, "compose", &[&position]));
                composed(&sheets.drawings.get(i as i64), &mut generator)
            }
        }
    }
}

/// A drawing `[4, S, S]` over a plain ground of a colour, at a size and place drawn from `generator`.
fn composed(drawing: &Tensor, generator: &mut Generator) -> Result<RgbImage> {
    let _frozen = tch::no_grad_guard();
    let side = drawing.size()[1];
    let ground: Vec<f64> = (0..3).map(|_| generator.rand()).collect();
    let size = side as f64 * (SIZES.0 + (SIZES.1 - SIZES.0) * generator.rand());
    let size = (size.round() as i64).clamp(1, side);
    let mut offset =
        || ((side - size) as f64 / 2.0 + side as f64 * SHIFT * (2.0 * generator.rand() - 1.0)).round() as i64;
    let (left, top) = (offset().clamp(0, side - size), offset().clamp(0, side - size));
    let small = drawing.unsqueeze(0).f_internal_upsample_bilinear2d_aa([size, size], false, None, None)?;
    let placed = small.f_constant_pad_nd([left, side - size - left, top, side - size - top])?.squeeze_dim(0);
    let ground = Tensor::from_slice(&ground).to_kind(Kind::Float).view([3, 1, 1]);
    let coverage: Tensor = 1.0 - placed.narrow(0, 3, 1);
    let picture = placed.narrow(0, 0, 3) + coverage * ground;
    let bytes = (picture.clamp(0.0, 1.0) * 255.0).round().to_kind(Kind::Uint8).permute([1, 2, 0]).contiguous();
    let bytes = Vec::<u8>::try_from(bytes.view([-1]))?;
    RgbImage::from_raw(side as u32, side as u32, bytes).context("a composed drawing of another size")
}
