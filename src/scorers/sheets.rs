//! Drawings on transparent ground: a folder with names.jsonl and a sheet per style.

use anyhow::{Context, Result, ensure};
use image::RgbaImage;
use serde::Deserialize;
use std::path::{Path, PathBuf};
use tch::{Device, Kind, Tensor};

/// Description of the folder in messages.
pub const FORM: &str = "folder with names.jsonl and drawings/STYLE.webp";
/// Sheets in drawings/, and whether the style is flat.
pub const STYLES: [(&str, bool); 6] = [
    ("noto", false),
    ("noto-v1", false),
    ("fluent", false),
    ("fluent-flat", true),
    ("twemoji", true),
    ("emojione", true),
];
/// Drawings per row of a sheet.
const COLUMNS: u32 = 10;
/// Pixels along a side of a drawing.
pub const SIDE: i64 = 64;
#[derive(Deserialize)]
struct Name {
    prompt: String,
}

/// All drawings of all names in all styles.
pub struct Sheets {
    pub names: Vec<String>,
    /// `[drawings, 4, 64, 64]` in [0, 1]: coverage times colour, coverage; styles in order, names within a style.
    pub drawings: Tensor,
}

impl Sheets {
    /// Reads a folder.
    ///
    /// # Errors
    /// A missing or damaged file; a sheet of another size.
    pub fn read(dir: &Path) -> Result<Self> {
        let names = read_names(&dir.join("names.jsonl"))?;
        let mut drawings = Vec::new();
        for (style, _) in STYLES {
            drawings.extend(read_sheet(&sheet(dir, style), names.len())?);
        }
        Ok(Self { names, drawings: Tensor::f_stack(&drawings, 0)? })
    }

    /// All files of a folder.
    pub fn files(dir: &Path) -> Vec<PathBuf> {
        std::iter::once(dir.join("names.jsonl")).chain(STYLES.map(|(style, _)| sheet(dir, style))).collect()
    }
}

/// Interleaved bytes of a 64 x 64 picture as `[channels, 64, 64]` float32 in [0, 1].
fn planes(bytes: &[u8], channels: i64) -> Result<Tensor> {
    let pixels = Tensor::from_slice(bytes).f_view([SIDE, SIDE, channels])?;
    Ok(pixels.permute([2, 0, 1]).to_kind(Kind::Float).to_device(Device::Cpu).contiguous() / 255.0)
}
fn sheet(dir: &Path, style: &str) -> PathBuf {
    dir.join("drawings").join(format!("{style}.webp"))
}

fn read_names(file: &Path) -> Result<Vec<String>> {
    let text = std::fs::read_to_string(file)
        .with_context(|| format!("cannot read {}; drawings are a {FORM}", file.display()))?;
    let rows = text.lines().enumerate().filter(|(_, line)| !line.trim().is_empty());
    let name = |(index, line): (usize, &str)| -> Result<String> {
        let row: Name = serde_json::from_str(line)
            .with_context(|| format!("{} row {}: expected {{\"prompt\": ..}}", file.display(), index + 1))?;
        Ok(row.prompt)
    };
    let names: Vec<String> = rows.map(name).collect::<Result<_>>()?;
    ensure!(!names.is_empty(), "{} holds no name", file.display());
    Ok(names)
}

/// The drawings of a style, premultiplied, `[4, 64, 64]` each.
fn read_sheet(file: &Path, count: usize) -> Result<Vec<Tensor>> {
    let bytes = std::fs::read(file).with_context(|| format!("cannot read the drawings {}", file.display()))?;
    let sheet = image::load_from_memory(&bytes).with_context(|| format!("{} is not a picture", file.display()))?;
    let sheet: RgbaImage = sheet.to_rgba8();
    let side = SIDE as u32;
    let (columns, rows) = (COLUMNS * side, (count as u32).div_ceil(COLUMNS) * side);
    ensure!(
        sheet.width() == columns && sheet.height() >= rows,
        "{} has {} x {} pixels; expected {columns} x {rows} for {count} names",
        file.display(),
        sheet.width(),
        sheet.height()
    );
    let one = |index: u32| {
        let (x, y) = (index % COLUMNS * side, index / COLUMNS * side);
        let cell = planes(image::imageops::crop_imm(&sheet, x, y, side, side).to_image().as_raw(), 4)?;
        let coverage = cell.narrow(0, 3, 1);
        Ok(Tensor::f_cat(&[cell.narrow(0, 0, 3) * &coverage, coverage], 0)?)
    };
    (0..count as u32).map(one).collect()
}
