//! Drawings over plain grounds: the nearest one to a picture among all drawings, sizes and places. A picture p is compared
//! with a d + (1 - a) g: drawing d with coverage a, and the picture's own ground g.

use super::pixels::pixels;
use super::ring;
use super::sheets::{SIDE, STYLES, Sheets};
use anyhow::Result;
use image::RgbImage;
use std::path::Path;
use tch::{Kind, Tensor};

/// Side of the pictures that the search compares.
const SMALL: i64 = 32;
/// Sizes and shifts of the search, in pixels.
const SIZES: [i64; 3] = [44, 50, 56];
const SHIFTS: [i64; 3] = [-2, 0, 2];
/// Sizes and shifts of the distance to the drawing found.
const FINE_SIZES: [i64; 7] = [44, 46, 48, 50, 52, 54, 56];
const FINE_SHIFTS: [i64; 5] = [-2, -1, 0, 1, 2];

/// All drawings of all names in all styles.
pub struct Composites {
    names: Vec<String>,
    /// `[drawings, 4, 64, 64]`: coverage times colour, coverage; styles in order, names within a style.
    drawings: Tensor,
    /// Every drawing at every size and place of the search, placements of a drawing together: a d `[placements, 3 S S]`,
    /// a `[placements, S S]`.
    colour: Tensor,
    coverage: Tensor,
    /// |a d|^2, |a|^2 `[placements]` and sums of a^2 d per channel `[3, placements]`.
    colour_square: Tensor,
    coverage_square: Tensor,
    mixed: Tensor,
}

/// The nearest drawing of a picture.
pub struct Found {
    /// Row of names.jsonl.
    pub name: usize,
    pub flat: bool,
    /// Root mean squared distance to the nearest shaded drawing minus that to the nearest flat one, in [-1, 1].
    pub flatness: f64,
    /// Root mean squared distance to the best composite of the nearest drawing, in [0, 1].
    pub off_manifold: f64,
}

impl Composites {
    /// Reads a folder.
    ///
    /// # Errors
    /// A missing or damaged file; a sheet of another size.
    pub fn read(dir: &Path) -> Result<Self> {
        let _frozen = tch::no_grad_guard();
        let Sheets { names, drawings } = Sheets::read(dir)?;
        Self::of(names, drawings)
    }

    fn of(names: Vec<String>, drawings: Tensor) -> Result<Self> {
        let ratio = SIDE / SMALL;
        let canvases = centred(&drawings, &SIZES)?.f_flatten(0, 1)?;
        let small = canvases.f_avg_pool2d([ratio; 2], [ratio; 2], [0, 0], false, true, None::<i64>)?;
        let small = shifted(&small, &SHIFTS.map(|shift| shift / ratio))?; // [canvases, shifts, 4, S, S]
        let small = small.f_flatten(0, 1)?;
        let colour = small.narrow(1, 0, 3).f_flatten(1, -1)?;
        let coverage = small.select(1, 3).f_flatten(1, -1)?;
        let by_channel = small.narrow(1, 0, 3).f_flatten(2, -1)?; // [placements, 3, S S]
        let mixed = (by_channel * coverage.unsqueeze(1)).sum_dim_intlist([-1].as_slice(), false, Kind::Float);
        let square = |x: &Tensor| x.square().sum_dim_intlist([-1].as_slice(), false, Kind::Float);
        Ok(Self {
            names,
            drawings,
            colour_square: square(&colour),
            coverage_square: square(&coverage),
            mixed: mixed.f_transpose(0, 1)?.contiguous(),
            colour,
            coverage,
        })
    }

    pub fn names(&self) -> &[String] {
        &self.names
    }

    /// The nearest drawing of a picture. Other sizes than 64 x 64 are resized.
    ///
    /// # Errors
    /// Errors of libtorch.
    pub fn nearest(&self, picture: &RgbImage) -> Result<Found> {
        let _frozen = tch::no_grad_guard();
        let ground = ring::colour(picture).map(|value| value as f32);
        let picture = pixels(std::slice::from_ref(picture), SIDE as u32)?.squeeze_dim(0); // [3, 64, 64]
        let pixels = (picture + 1.0) / 2.0;
        let distances = self.distances(&pixels, &Tensor::from_slice(&ground))?; // [drawings]
        let drawing = distances.f_argmin(0, false)?.int64_value(&[]) as usize;
        let flat = |drawing: usize| STYLES[drawing / self.names.len()].1;
        let rms = |wanted: bool| {
            let of_style = |drawing: usize| distances.double_value(&[drawing as i64]);
            let found = (0..self.names.len() * STYLES.len()).filter(|drawing| flat(*drawing) == wanted).map(of_style);
            (found.fold(f64::INFINITY, f64::min).max(0.0) / (3 * SMALL * SMALL) as f64).sqrt()
        };
        Ok(Found {
            name: drawing % self.names.len(),
            flat: flat(drawing),
            flatness: rms(false) - rms(true),
            off_manifold: self.off_manifold(&pixels, &Tensor::from_slice(&ground), drawing)?,
        })
    }

    /// Squared distance to the best placement of every drawing, `[drawings]`: with r = p - g it is |r|^2 - 2 r.(a d) +
    /// 2 sum_c g_c (r_c.a) + |a d|^2 - 2 sum_c g_c sum a^2 d_c + |g|^2 |a|^2.
    fn distances(&self, picture: &Tensor, ground: &Tensor) -> Result<Tensor> {
        let ratio = SIDE / SMALL;
        let small = picture.unsqueeze(0).f_avg_pool2d([ratio; 2], [ratio; 2], [0, 0], false, true, None::<i64>)?;
        let rest = small.squeeze_dim(0) - ground.view([3, 1, 1]); // [3, S, S]
        let weighted = (&rest * ground.view([3, 1, 1])).sum_dim_intlist([0].as_slice(), false, Kind::Float);
        let squares = &self.colour_square - ground.f_matmul(&self.mixed)? * 2.0
            + &self.coverage_square * ground.square().sum(Kind::Float);
        let products = self.coverage.f_mv(&weighted.view([-1]))? - self.colour.f_mv(&rest.f_flatten(0, -1)?)?;
        let all = squares + products * 2.0 + rest.square().sum(Kind::Float);
        let placements = (SIZES.len() * SHIFTS.len() * SHIFTS.len()) as i64;
        Ok(all.f_view([-1, placements])?.amin([1].as_slice(), false))
    }

    fn off_manifold(&self, picture: &Tensor, ground: &Tensor, drawing: usize) -> Result<f64> {
        let canvases = centred(&self.drawings.narrow(0, drawing as i64, 1), &FINE_SIZES)?.f_flatten(0, 1)?;
        let placed = shifted(&canvases, &FINE_SHIFTS)?.f_flatten(0, 1)?; // [placements, 4, 64, 64]
        let composites: Tensor = placed.narrow(1, 0, 3) + (1.0 - placed.narrow(1, 3, 1)) * ground.view([3, 1, 1]);
        let distances = (composites - picture).square().mean_dim([1, 2, 3].as_slice(), false, Kind::Float).min().sqrt();
        Ok(distances.double_value(&[]))
    }
}

/// Drawings `[N, 4, 64, 64]` at every size in the middle of their canvas, `[N, sizes, 4, 64, 64]`.
fn centred(drawings: &Tensor, sizes: &[i64]) -> Result<Tensor> {
    let at = |size: &i64| {
        let resized = drawings.f_internal_upsample_bilinear2d_aa([*size, *size], false, None, None)?;
        let edge = (SIDE - size) / 2;
        resized.f_constant_pad_nd([edge, SIDE - size - edge, edge, SIDE - size - edge])
    };
    Ok(Tensor::f_stack(&sizes.iter().map(at).collect::<Result<Vec<_>, _>>()?, 1)?)
}

/// Canvases `[N, 4, H, W]` moved by every y and x of `shifts`, `[N, y x, 4, H, W]`; their margins are empty.
fn shifted(canvases: &Tensor, shifts: &[i64]) -> Result<Tensor> {
    let moves = shifts.iter().flat_map(|y| shifts.iter().map(move |x| [*y, *x]));
    let moved = moves.map(|by| canvases.f_roll(by, [-2, -1])).collect::<Result<Vec<_>, _>>()?;
    Ok(Tensor::f_stack(&moved, 1)?)
}
