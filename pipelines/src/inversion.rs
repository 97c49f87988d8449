//! Inversion: from latents of a picture to the noisy latents from which the model would paint it (docs/methods.md 18,
//! 21.5).

use crate::levels::Levels;
use crate::process::{Coefficients, Process, check_like};
use crate::{Error, Result};
use tch::Tensor;

/// Level of the network's call in a correction.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CorrectionLabel {
    /// The destination level of the step, that of the corrected latents: second order, as in ReNoise itself.
    Destination,
    /// The source level of the step, as published for SmPO: first order.
    Source,
}

/// Options of each step of an inversion.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Inversion {
    /// ReNoise corrections per step (arXiv 2403.14602), each one more call of the network; 0 is plain DDIM inversion
    /// (arXiv 2010.02502).
    pub corrections: usize,
    pub label: CorrectionLabel,
    /// Noise added after every step as a share of that removed by DDPM between the two levels; 0 is deterministic.
    pub eta: f64,
}

impl Inversion {
    /// Deterministic DDIM inversion.
    pub const DDIM: Self = Self { corrections: 0, label: CorrectionLabel::Destination, eta: 0.0 };
}

/// The network of an inversion: called with `latents` `[n, C, h, w]` at `levels` `[n]` (negative for a negative
/// level), which are the rows `rows` of the batch. Returns its prediction in its own parameterisation,
/// `[n, C, h, w]`.
pub type Predict<'a> = dyn FnMut(&Tensor, &Levels, &[i64]) -> Result<Tensor> + 'a;

/// Draws N(0, I) `[C, h, w]` for a row of the batch and one of its steps, both from 0.
pub type Draw<'a> = dyn FnMut(i64, usize) -> Tensor + 'a;

/// Inverts `latents` `[B, C, h, w]`, row i along `levels[i]`: rising levels, the first of them the level of the given
/// latents. A negative level has the noise of level 0, but is passed to the network unchanged. Rows may have any
/// number of levels; a finished row is no longer computed.
///
/// `noise` is called if eta > 0. Nothing is tracked for gradients.
///
/// # Errors
/// Levels that do not rise, exceed the last one, or are not one list per row; a failing `predict`.
pub fn invert(
    process: &dyn Process,
    method: Inversion,
    latents: &Tensor,
    levels: &[Vec<f64>],
    predict: &mut Predict,
    noise: &mut Draw,
) -> Result<Tensor> {
    check(process, latents, levels)?;
    let _frozen = tch::no_grad_guard();
    let mut latents = latents.copy();
    let longest = levels.iter().map(Vec::len).max().unwrap_or(0);
    for step in 0..longest.saturating_sub(1) {
        let going = |row: &usize| levels[*row].len() > step + 1;
        let rows: Vec<i64> = (0..levels.len()).filter(going).map(|row| row as i64).collect();
        let level = |ahead: usize| {
            let levels: Vec<f64> = rows.iter().map(|row| levels[*row as usize][step + ahead]).collect();
            Levels::new(&levels).to(latents.device())
        };
        let span = Span { process, source: level(0), destination: level(1) };
        let index = Tensor::from_slice(&rows).to_device(latents.device());
        let moving = latents.index_select(0, &index);
        let mut moved = span.invert(method, &moving, &mut |x, t| predict(x, t, &rows))?;
        if method.eta > 0.0 {
            let drawn: Vec<Tensor> = rows.iter().map(|row| noise(*row, step)).collect();
            let drawn = Tensor::f_stack(&drawn, 0)?.to_device(moved.device()).to_kind(moved.kind());
            moved += process.reverse_std(&moving, &span.destination, &span.source) * drawn * method.eta;
        }
        latents = latents.index_copy(0, &index, &moved);
    }
    Ok(latents)
}

fn check(process: &dyn Process, latents: &Tensor, levels: &[Vec<f64>]) -> Result<()> {
    let rows = latents.size().first().copied().unwrap_or_default();
    if latents.dim() != 4 || levels.len() as i64 != rows {
        return Err(Error::Shape {
            what: "a batch of latents to invert",
            expected: format!("[{}, C, h, w], a row for each list of levels", levels.len()),
            found: format!("{:?}", latents.size()),
        });
    }
    let last = process.range().last();
    for levels in levels {
        let rising = levels.windows(2).all(|pair| pair[0] < pair[1]);
        if levels.is_empty() || !rising || levels.iter().any(|level| *level > last) {
            return Err(Error::Invalid(format!(
                "levels of an inversion: expected rising levels up to {last}, found {levels:?}"
            )));
        }
    }
    Ok(())
}

/// One step of an inversion: from the levels `source` to `destination`, `[n]`.
struct Span<'a> {
    process: &'a dyn Process,
    source: Levels,
    destination: Levels,
}

impl Span<'_> {
    /// x_q = a_q x0_hat(x_p, eps) + s_q eps, with eps from x_p alone or averaged over the corrections.
    fn invert(
        &self,
        method: Inversion,
        latents: &Tensor,
        predict: &mut dyn FnMut(&Tensor, &Levels) -> Result<Tensor>,
    ) -> Result<Tensor> {
        let mut sum = self.epsilon(&predict(latents, &self.source)?, latents, &self.source)?;
        let mut moved = self.noised(latents, &sum);
        for correction in 1..=method.corrections {
            let told = match method.label {
                CorrectionLabel::Destination => &self.destination,
                CorrectionLabel::Source => &self.source,
            };
            // not in place: the first term is the tensor returned by `predict`
            sum = self.epsilon(&predict(&moved, told)?, &moved, told)? + &sum;
            moved = self.noised(latents, &(&sum / (correction + 1) as f64));
        }
        Ok(moved)
    }

    fn epsilon(&self, prediction: &Tensor, latents: &Tensor, levels: &Levels) -> Result<Tensor> {
        check_like("a prediction while inverting", prediction, latents)?;
        Ok(self.process.split(prediction, latents, levels).epsilon)
    }

    /// The latents of `source` at `destination`, if `epsilon` is their noise.
    fn noised(&self, latents: &Tensor, epsilon: &Tensor) -> Tensor {
        let Coefficients { signal, sigma } = self.process.coefficients(latents, &self.source);
        let to = self.process.coefficients(latents, &self.destination);
        to.signal * (latents - sigma * epsilon) / signal + to.sigma * epsilon
    }
}
