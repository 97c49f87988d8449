//! Natural-scene statistics of BRISQUE (Mittal et al. 2012, doi 10.1109/TIP.2012.2214050), as the Python package
//! brisque 0.2.0 computes them.

use anyhow::{Context, Result, bail};
use image::RgbImage;
use libm::tgamma;

/// Number of statistics: 18 at full size and 18 at half size.
pub const STATISTICS: usize = 36;
/// Side and standard deviation of the Gaussian window, in pixels.
const WINDOW: usize = 7;
const SIGMA: f64 = 7.0 / 6.0;
/// Added to local deviations; pictures are in [0, 1].
const STABILISER: f64 = 1.0 / 255.0;
/// Weights of red, green and blue (ITU-R 709), as skimage.color.rgb2gray has them.
const GREY: [f64; 3] = [0.2125, 0.7154, 0.0721];
/// Weights of four neighbours half-way between two pixels: cubic convolution with a = -0.75, as in OpenCV.
const CUBIC: [f64; 4] = [-0.09375, 0.59375, 0.59375, -0.09375];
/// Shapes that a fit searches.
const SHAPES: (f64, f64) = (0.02, 100.0);

/// The 36 statistics of a picture. In plain areas a coefficient is what rounding leaves, and a fit counts its sign: there
/// the numbers of the package differ between builds of its libraries, by up to some points of the score.
///
/// # Errors
/// A picture of one colour, or one of fewer than 4 pixels along a side.
pub fn statistics(picture: &RgbImage) -> Result<[f64; STATISTICS]> {
    if picture.width() < 4 || picture.height() < 4 {
        bail!("it has {} x {} pixels; expected at least 4 x 4", picture.width(), picture.height());
    }
    if picture.pixels().all(|pixel| pixel == picture.get_pixel(0, 0)) {
        bail!("it has one colour everywhere, and BRISQUE rates variation");
    }
    let grey = Plane::grey(picture);
    let mut all = of_scale(&grey)?;
    all.extend(of_scale(&grey.halved())?);
    all.try_into().ok().context("BRISQUE computes 36 statistics")
}

/// Numbers by row and column.
struct Plane {
    width: usize,
    height: usize,
    values: Vec<f64>,
}

impl Plane {
    fn new(width: usize, height: usize, value: impl Fn(usize, usize) -> f64) -> Self {
        let rows = (0..height).flat_map(|y| (0..width).map(move |x| (x, y)));
        Self { width, height, values: rows.map(|(x, y)| value(x, y)).collect() }
    }

    fn at(&self, x: usize, y: usize) -> f64 {
        self.values[y * self.width + x]
    }

    /// Brightness in [0, 1].
    fn grey(picture: &RgbImage) -> Self {
        Self::new(picture.width() as usize, picture.height() as usize, |x, y| {
            let [r, g, b] = picture.get_pixel(x as u32, y as u32).0.map(|value| f64::from(value) / 255.0);
            r * GREY[0] + g * GREY[1] + b * GREY[2]
        })
    }

    /// Half the size; edges are repeated.
    fn halved(&self) -> Self {
        // Output i lies between inputs 2 i and 2 i + 1.
        let tap = |i: usize, k: usize, length: usize| (2 * i + k).saturating_sub(1).min(length - 1);
        let (width, height) = (half(self.width), half(self.height));
        let along = |taps: &dyn Fn(usize) -> f64| CUBIC.iter().enumerate().map(|(k, weight)| weight * taps(k)).sum();
        let rows = Self::new(width, self.height, |x, y| along(&|k| self.at(tap(x, k, self.width), y)));
        Self::new(width, height, |x, y| along(&|k| rows.at(x, tap(y, k, self.height))))
    }

    /// Sum over a window around every pixel; outside lies black.
    fn windowed(&self, window: &[f64], value: impl Fn(f64) -> f64) -> Self {
        let reach = WINDOW / 2;
        Self::new(self.width, self.height, |x, y| {
            let mut sum = 0.0;
            for (i, weight) in window.iter().enumerate() {
                let (column, row) = (x + i % WINDOW, y + i / WINDOW);
                let inside =
                    (reach..self.width + reach).contains(&column) && (reach..self.height + reach).contains(&row);
                if inside {
                    sum += value(self.at(column - reach, row - reach)) * weight;
                }
            }
            sum
        })
    }
}

/// Half of a size, rounded to the even number where it is between two.
fn half(size: usize) -> usize {
    (size as f64 / 2.0).round_ties_even() as usize
}

/// 18 statistics of one scale.
fn of_scale(grey: &Plane) -> Result<Vec<f64>> {
    let x = normalised(grey);
    let (width, height) = (x.width - 1, x.height - 1);
    let whole = Fit::of(&x)?;
    let mut all = vec![whole.shape, (whole.left.powi(2) + whole.right.powi(2)) / 2.0];
    let neighbours = [
        Plane::new(width, x.height, |i, j| x.at(i, j) * x.at(i + 1, j)),
        Plane::new(x.width, height, |i, j| x.at(i, j) * x.at(i, j + 1)),
        Plane::new(width, height, |i, j| x.at(i, j) * x.at(i + 1, j + 1)),
        Plane::new(width, height, |i, j| x.at(i, j + 1) * x.at(i + 1, j)),
    ];
    for product in &neighbours {
        let fit = Fit::of(product)?;
        all.extend([fit.shape, fit.mean(), fit.left.powi(2), fit.right.powi(2)]);
    }
    Ok(all)
}

/// Mean-subtracted, contrast-normalised coefficients (equation 1).
fn normalised(grey: &Plane) -> Plane {
    let reach = (WINDOW / 2) as f64;
    let square = |i: usize| (i as f64 - reach).powi(2);
    let bell = |i: usize| {
        let scale = 1.0 / (2.0 * std::f64::consts::PI * SIGMA * SIGMA);
        scale * (-(square(i % WINDOW) + square(i / WINDOW)) / (2.0 * SIGMA * SIGMA)).exp()
    };
    let bells: Vec<f64> = (0..WINDOW * WINDOW).map(bell).collect();
    let sum: f64 = bells.iter().sum();
    let window: Vec<f64> = bells.iter().map(|bell| bell / sum).collect();
    let (mean, of_squares) = (grey.windowed(&window, |x| x), grey.windowed(&window, |x| x * x));
    Plane::new(grey.width, grey.height, |x, y| {
        let mean = mean.at(x, y);
        let deviation = (mean * mean - of_squares.at(x, y)).abs().sqrt();
        (grey.at(x, y) - mean) / (deviation + STABILISER)
    })
}

/// An asymmetric generalised Gaussian, fitted by moments (Lasmar et al. 2009).
struct Fit {
    /// alpha: 2 is Gaussian.
    shape: f64,
    /// Root mean squares of the values below zero, and of the others.
    left: f64,
    right: f64,
}

impl Fit {
    fn of(plane: &Plane) -> Result<Self> {
        let values = &plane.values;
        let n = values.len() as f64;
        let rms = |side: &dyn Fn(f64) -> bool| {
            let (count, sum) = values.iter().filter(|x| side(**x)).fold((0.0, 0.0), |(c, s), x| (c + 1.0, s + x * x));
            (sum / count).sqrt()
        };
        let (left, right) = (rms(&|x| x < 0.0), rms(&|x| x >= 0.0));
        let (absolute, square) = values.iter().fold((0.0, 0.0), |(a, s), x| (a + x.abs(), s + x * x));
        let ratio = (absolute / n).powi(2) / (square / n);
        let skew = left / right;
        let moment = ratio * (skew.powi(3) + 1.0) * (skew + 1.0) / (skew.powi(2) + 1.0).powi(2);
        if !moment.is_finite() {
            bail!("its statistics are not finite: it has hardly any variation");
        }
        Ok(Self { shape: shape_of(moment), left, right })
    }

    /// eta of the fit.
    fn mean(&self) -> f64 {
        let scale = (tgamma(1.0 / self.shape) / tgamma(3.0 / self.shape)).sqrt();
        (self.right - self.left) * scale * (tgamma(2.0 / self.shape) / tgamma(1.0 / self.shape))
    }
}

/// alpha with G(2 / alpha)^2 / (G(1 / alpha) G(3 / alpha)) = `moment`, which rises with alpha; by bisection.
fn shape_of(moment: f64) -> f64 {
    let rho = |alpha: f64| tgamma(2.0 / alpha).powi(2) / (tgamma(1.0 / alpha) * tgamma(3.0 / alpha));
    let (mut low, mut high) = SHAPES;
    while high - low > 1e-12 * high {
        let middle = (low + high) / 2.0;
        // NaN: the functions overflow for small alpha, where rho is near 0.
        match rho(middle) >= moment {
            true => high = middle,
            false => low = middle,
        }
    }
    (low + high) / 2.0
}
