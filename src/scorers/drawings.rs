//! The drawings that pictures are compared with: `DIR/flat/SLUG.png` and `DIR/shaded/SLUG.png`.

use crate::machine::hashes;
use anyhow::{Context, Result, bail};
use image::RgbImage;
use std::path::Path;

/// All drawings of all names in both styles, of one square size.
pub struct Drawings {
    pub images: Vec<RgbImage>,
    /// Whether drawing i is flat.
    pub flat: Vec<bool>,
    /// The name of drawing i.
    pub names: Vec<String>,
    /// Pixels along a side.
    pub side: u32,
    /// SHA-256 over names, styles and files.
    pub hash: String,
}

impl Drawings {
    /// Reads the drawings of `names`, (name, slug) each.
    ///
    /// # Errors
    /// When a drawing is missing, no picture, or of another size than the first.
    pub fn read(dir: &Path, names: &[(String, String)]) -> Result<Self> {
        let mut drawings =
            Self { images: Vec::new(), flat: Vec::new(), names: Vec::new(), side: 0, hash: String::new() };
        let mut hashed = String::new();
        for (style, flat) in [("flat", true), ("shaded", false)] {
            for (name, slug) in names {
                let path = dir.join(style).join(format!("{slug}.png"));
                let bytes = std::fs::read(&path).with_context(|| {
                    format!(
                        "cannot read the drawing {}; --drawings needs flat/SLUG.png and shaded/SLUG.png of every name",
                        path.display()
                    )
                })?;
                let image = image::load_from_memory(&bytes)
                    .with_context(|| format!("{} is not a picture", path.display()))?
                    .to_rgb8();
                drawings.add(&path, image)?;
                drawings.flat.push(flat);
                drawings.names.push(name.clone());
                hashed.push_str(&format!("{style} {name} {}\n", hashes::of_bytes(&bytes)));
            }
        }
        drawings.hash = hashes::of_bytes(hashed.as_bytes());
        Ok(drawings)
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
