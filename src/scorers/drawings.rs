//! The drawings that pictures are compared with: a folder with `names.jsonl` and `drawings/STYLE/SLUG.png`.

use anyhow::{Context, Result, bail};
use image::RgbImage;
use serde::Deserialize;
use std::path::{Path, PathBuf};

/// Styles by folder, and whether each is flat.
const STYLES: [(&str, bool); 2] = [("flat", true), ("shaded", false)];

/// Description of the folder in messages.
pub const FORM: &str = "folder with names.jsonl and drawings/{flat,shaded}/SLUG.png";

/// All drawings of all names in both styles, square and of one size.
pub struct Drawings {
    pub images: Vec<RgbImage>,
    /// Whether drawing i is flat.
    pub flat: Vec<bool>,
    /// The name of drawing i.
    pub names: Vec<String>,
    /// Pixels along a side.
    pub side: u32,
}

/// A row of `names.jsonl`.
#[derive(Deserialize)]
struct Name {
    prompt: String,
    /// File name of its drawings, without ending.
    slug: String,
}

/// Path of one drawing.
struct Drawing {
    path: PathBuf,
    flat: bool,
    name: String,
}

impl Drawings {
    /// Reads the folder's drawings.
    ///
    /// # Errors
    /// `names.jsonl` without names; a drawing that is missing, no picture, or of another size than the first.
    pub fn read(dir: &Path) -> Result<Self> {
        let mut drawings = Self { images: Vec::new(), flat: Vec::new(), names: Vec::new(), side: 0 };
        for Drawing { path, flat, name } in listed(dir)? {
            let bytes = std::fs::read(&path).with_context(|| format!("cannot read the drawing {}", path.display()))?;
            let image =
                image::load_from_memory(&bytes).with_context(|| format!("{} is not a picture", path.display()))?;
            drawings.add(&path, image.to_rgb8())?;
            drawings.flat.push(flat);
            drawings.names.push(name);
        }
        Ok(drawings)
    }

    /// All files of the folder that affect scores.
    ///
    /// # Errors
    /// `names.jsonl` without names.
    pub fn files(dir: &Path) -> Result<Vec<PathBuf>> {
        let drawings = listed(dir)?.into_iter().map(|drawing| drawing.path);
        Ok(std::iter::once(names_file(dir)).chain(drawings).collect())
    }

    fn add(&mut self, path: &Path, image: RgbImage) -> Result<()> {
        let (width, height) = image.dimensions();
        if self.images.is_empty() {
            self.side = width;
        }
        if (width, height) != (self.side, self.side) {
            bail!(
                "{} has {width} x {height} pixels, expected {1} x {1} like the first drawing",
                path.display(),
                self.side
            );
        }
        self.images.push(image);
        Ok(())
    }
}

fn names_file(dir: &Path) -> PathBuf {
    dir.join("names.jsonl")
}

/// The drawings listed in `names.jsonl`: all flat ones, then all shaded ones.
fn listed(dir: &Path) -> Result<Vec<Drawing>> {
    let file = names_file(dir);
    let text = std::fs::read_to_string(&file)
        .with_context(|| format!("cannot read {}; drawings are a {FORM}", file.display()))?;
    let rows = text.lines().enumerate().filter(|(_, line)| !line.trim().is_empty());
    let name = |(index, line): (usize, &str)| -> Result<Name> {
        serde_json::from_str(line)
            .with_context(|| format!("{} row {}: expected {{\"prompt\": .., \"slug\": ..}}", file.display(), index + 1))
    };
    let names: Vec<Name> = rows.map(name).collect::<Result<_>>()?;
    if names.is_empty() {
        bail!("{} holds no name", file.display());
    }
    let of_style = |(style, flat): (&str, bool)| {
        let folder = dir.join("drawings").join(style);
        let drawing = move |Name { prompt, slug }: &Name| Drawing {
            path: folder.join(format!("{slug}.png")),
            flat,
            name: prompt.clone(),
        };
        names.iter().map(drawing).collect::<Vec<_>>()
    };
    Ok(STYLES.into_iter().flat_map(of_style).collect())
}
