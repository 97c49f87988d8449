//! Pictures side by side.

use image::{Rgb, RgbImage, imageops};

/// Pixels between pictures.
const GAP: u32 = 2;
/// Largest side of a PNG that common programs open.
const LARGEST_SIDE: u32 = 32_768;

/// The layout of a grid.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Grid {
    pub columns: u32,
    pub rows: u32,
}

impl Grid {
    /// One row per prompt, one column per seed; with one picture per prompt nearly square. None if it would be too
    /// large.
    pub fn of(prompts: usize, images: usize, width: u32, height: u32) -> Option<Self> {
        let (prompts, images) = (u32::try_from(prompts).ok()?, u32::try_from(images).ok()?);
        let (columns, rows) = match images {
            1 => {
                let columns = f64::from(prompts).sqrt().ceil() as u32;
                (columns, prompts.div_ceil(columns.max(1)))
            }
            _ => (images, prompts),
        };
        (columns <= Self::most(width) && rows <= Self::most(height)).then_some(Self { columns, rows })
    }

    /// Number of pictures of `side` pixels that fit side by side into a PNG within the limit of common programs.
    pub fn most(side: u32) -> u32 {
        LARGEST_SIDE / side.saturating_add(GAP)
    }
}

/// `pictures` row by row over white; all have the size of the first.
pub fn grid(layout: Grid, pictures: &[RgbImage]) -> RgbImage {
    let (width, height) = pictures.first().map_or((1, 1), RgbImage::dimensions);
    let side = |count: u32, pixels: u32| count * (pixels + GAP) - GAP.min(count * (pixels + GAP));
    let mut sheet = RgbImage::from_pixel(side(layout.columns, width), side(layout.rows, height), Rgb([255; 3]));
    for (place, picture) in pictures.iter().enumerate() {
        let (column, row) = (place as u32 % layout.columns, place as u32 / layout.columns);
        imageops::replace(&mut sheet, picture, i64::from(column * (width + GAP)), i64::from(row * (height + GAP)));
    }
    sheet
}
