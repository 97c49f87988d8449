//! Drawings over plain grounds: the nearest one to a picture among all drawings, sizes and places. A picture p is compared
//! with a d + (1 - a) g: drawing d with coverage a, and the picture's own ground g.

use super::pixels::pixels;
use super::ring;
use super::sheets::{SIDE, STYLES, Sheets};
use anyhow::{Context, Result};
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

/// Pictures that are compared at once.
const GROUP: i64 = 16;

/// All drawings of all names in all styles.
pub struct Composites {
    names: Vec<String>,
    /// `[drawings, 4, 64, 64]`: coverage times colour, coverage; styles in order, names within a style.
    drawings: Tensor,
    /// Every drawing at every size and place of the search, placements of a drawing together: a d `[placements, 3 S S]`,
    /// a `[placements, S S]`.
    colour: Tensor,
    coverage: Tensor,
    /// |a d|^2, |a|^2 `[placements]` and sums of a^2 d per channel `[placements, 3]`.
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
            mixed,
            colour,
            coverage,
        })
    }

    pub fn names(&self) -> &[String] {
        &self.names
    }

    /// The nearest drawing of each picture. Other sizes than 64 x 64 are resized.
    ///
    /// # Errors
    /// Errors of libtorch.
    pub fn nearest(&self, pictures: &[RgbImage]) -> Result<Vec<Found>> {
        let _frozen = tch::no_grad_guard();
        let mut found = Vec::with_capacity(pictures.len());
        for group in pictures.chunks(GROUP as usize) {
            let grounds: Vec<[f32; 3]> = group.iter().map(|p| ring::colour(p).map(|value| value as f32)).collect();
            let grounds = Tensor::from_slice(grounds.as_flattened()).view([-1, 3]); // [B, 3]
            let pixels = (pixels(group, SIDE as u32)? + 1.0) / 2.0; // [B, 3, 64, 64]
            let distances = self.distances(&pixels, &grounds)?; // [drawings, B]
            for picture in 0..group.len() as i64 {
                let distances = Vec::<f32>::try_from(distances.select(1, picture).contiguous())?;
                found.push(self.found(&distances, &pixels.select(0, picture), &grounds.select(0, picture))?);
            }
        }
        Ok(found)
    }

    /// From squared distances, one per drawing.
    fn found(&self, distances: &[f32], picture: &Tensor, ground: &Tensor) -> Result<Found> {
        let flat = |drawing: usize| STYLES[drawing / self.names.len()].1;
        let drawing = (0..distances.len()).min_by(|a, b| distances[*a].total_cmp(&distances[*b]));
        let drawing = drawing.context("there are no drawings")?;
        let rms = |wanted: bool| {
            let of_style = (0..distances.len()).filter(|drawing| flat(*drawing) == wanted).map(|i| distances[i]);
            (f64::from(of_style.fold(f32::INFINITY, f32::min).max(0.0)) / (3 * SMALL * SMALL) as f64).sqrt()
        };
        Ok(Found {
            name: drawing % self.names.len(),
            flat: flat(drawing),
            flatness: rms(false) - rms(true),
            off_manifold: self.off_manifold(picture, ground, drawing)?,
        })
    }

    /// Squared distance of pictures `[B, 3, 64, 64]` to the best placement of every drawing, `[drawings, B]`: with
    /// r = p - g it is |r|^2 - 2 r.(a d) + 2 sum_c g_c (r_c.a) + |a d|^2 - 2 sum_c g_c sum a^2 d_c + |g|^2 |a|^2.
    fn distances(&self, pictures: &Tensor, grounds: &Tensor) -> Result<Tensor> {
        let ratio = SIDE / SMALL;
        let small = pictures.f_avg_pool2d([ratio; 2], [ratio; 2], [0, 0], false, true, None::<i64>)?;
        // A product of matrices rounds by their shape. Groups of one size score a picture alike in any company.
        let missing = GROUP - grounds.size()[0];
        let small = small.f_constant_pad_nd([0, 0, 0, 0, 0, 0, 0, missing])?;
        let grounds = grounds.f_constant_pad_nd([0, 0, 0, missing])?;
        let over = grounds.f_view([GROUP, 3, 1, 1])?;
        let rest = small - &over; // [B, 3, S, S]
        let weighted = (&rest * over).sum_dim_intlist([1].as_slice(), false, Kind::Float).f_flatten(1, -1)?;
        let rest = rest.f_flatten(1, -1)?;
        let square = |x: &Tensor| x.square().sum_dim_intlist([-1].as_slice(), false, Kind::Float); // [B]
        let squares = self.colour_square.unsqueeze(1) - self.mixed.f_matmul(&grounds.tr())? * 2.0
            + self.coverage_square.unsqueeze(1) * square(&grounds);
        let products = self.coverage.f_matmul(&weighted.tr())? - self.colour.f_matmul(&rest.tr())?;
        let all = squares + products * 2.0 + square(&rest); // [placements, B]
        let placements = (SIZES.len() * SHIFTS.len() * SHIFTS.len()) as i64;
        Ok(all.f_view([-1, placements, GROUP])?.amin([1].as_slice(), false))
    }

    /// Root mean squared distance of a picture `[3, 64, 64]` to the best fine placement of a drawing. With u = a d - a g
    /// of a size, placed by s, it is that of p - g to u. All are compared by |u|^2 - 2 (p - g).u, where the picture is
    /// moved by -s in place of the drawing; the best one is measured.
    fn off_manifold(&self, picture: &Tensor, ground: &Tensor, drawing: usize) -> Result<f64> {
        let ground = ground.f_view([3, 1, 1])?;
        let canvases = centred(&self.drawings.narrow(0, drawing as i64, 1), &FINE_SIZES)?.squeeze_dim(0);
        let over: Tensor = canvases.narrow(1, 0, 3) - canvases.narrow(1, 3, 1) * &ground; // [sizes, 3, 64, 64]
        let rest: Tensor = picture - ground;
        let back = FINE_SHIFTS.map(|shift| -shift);
        let moved = shifted(&rest.unsqueeze(0), &back)?.squeeze_dim(0).f_flatten(1, -1)?; // [places, 3 64 64]
        let flat = over.f_flatten(1, -1)?;
        let squares = flat.square().sum_dim_intlist([-1].as_slice(), false, Kind::Float); // [sizes]
        let compared = squares - moved.f_matmul(&flat.tr())? * 2.0; // [places, sizes]
        let best = compared.argmin(None, false).int64_value(&[]);
        let (place, size) = (best / FINE_SIZES.len() as i64, best % FINE_SIZES.len() as i64);
        let distance = (moved.select(0, place) - flat.select(0, size)).square().mean(Kind::Float).sqrt();
        Ok(distance.double_value(&[]))
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

/// Canvases `[N, C, H, W]` moved by every y and x of `shifts`, `[N, y x, C, H, W]`. What leaves on one side enters on the
/// other.
fn shifted(canvases: &Tensor, shifts: &[i64]) -> Result<Tensor> {
    let moves = shifts.iter().flat_map(|y| shifts.iter().map(move |x| [*y, *x]));
    let moved = moves.map(|by| canvases.f_roll(by, [-2, -1])).collect::<Result<Vec<_>, _>>()?;
    Ok(Tensor::f_stack(&moved, 1)?)
}
