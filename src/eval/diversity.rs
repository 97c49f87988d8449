//! Diversity: how far the pictures of one prompt are apart.

use super::album::Album;
use super::groups::Cell;
use crate::numbers::mean;
use crate::progress::Stop;
use anyhow::Result;
use image::imageops::thumbnail;

/// Pixels per side of the compared pictures: coarse enough that grain does not count as diversity.
const SIDE: u32 = 32;
/// Pictures per prompt that are compared with one another.
const MOST: usize = 16;

/// Root mean square distance between two pictures of a prompt, values 0 to 1, mean over pairs and then over prompts.
/// `None` with one picture per prompt. `cells`: every picture of the album, the cells of a prompt in a row.
///
/// # Errors
/// A picture that cannot be read; [`crate::progress::Stopped`] after a signal.
pub fn diversity(album: &Album, cells: &[Cell], stop: &Stop) -> Result<Option<f64>> {
    let mut per_prompt = Vec::new();
    for of_prompt in cells.chunk_by(|a, b| a.prompt == b.prompt) {
        stop.check()?;
        let small = |cell: &Cell| Ok(thumbnail(&album.picture(*cell)?, SIDE, SIDE).into_raw());
        let pictures: Vec<Vec<u8>> = of_prompt.iter().take(MOST).map(small).collect::<Result<_>>()?;
        let pairs = pictures.iter().enumerate().flat_map(|(i, a)| pictures.iter().skip(i + 1).map(move |b| (a, b)));
        per_prompt.extend(mean(pairs.map(|(a, b)| distance(a, b))));
    }
    Ok(mean(per_prompt))
}

fn distance(a: &[u8], b: &[u8]) -> f64 {
    let squares: f64 = a.iter().zip(b).map(|(a, b)| (f64::from(*a) - f64::from(*b)).powi(2)).sum();
    (squares / a.len() as f64).sqrt() / 255.0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn black_and_white_are_one_apart() {
        assert_eq!(distance(&[0, 0, 0], &[255, 255, 255]), 1.0);
        assert_eq!(distance(&[10, 20, 30], &[10, 20, 30]), 0.0);
    }
}
