//! CHES, centred hidden embedding similarity (arXiv 2410.08847), ported to denoising errors: <g_w, g_l> - |g_w|^2 with
//! g the gradient of the error of winner and loser. A step of DPO moves along -(g_w - g_l); above 0 it raises the
//! winner's error, to first order.

use anyhow::Result;
use tch::{Kind, Tensor};

/// CHES of two gradients of equal shape.
pub fn ches(winner: &Tensor, loser: &Tensor) -> f64 {
    let (w, l) = (winner.to_kind(Kind::Double), loser.to_kind(Kind::Double));
    ((&w * (l - &w)).sum(Kind::Double)).double_value(&[])
}

/// Gradient of the mean squared residual with respect to the prediction: 2 r / numel, shape of `residual`.
pub fn output_gradient(residual: &Tensor) -> Tensor {
    let residual = residual.detach().to_kind(Kind::Double);
    let elements = residual.numel() as f64;
    residual * (2.0 / elements)
}

/// Gradients of every entry of `errors` `[R]` with respect to `weight`, which the errors were computed from.
///
/// # Errors
/// Errors without a graph.
pub fn gradients(errors: &Tensor, weight: &Tensor) -> Result<Vec<Tensor>> {
    let of_row = |row: i64| {
        let error = errors.f_get(row)?;
        let gradients = Tensor::f_run_backward(&[error], &[weight], true, false)?;
        Ok(gradients.into_iter().next().map_or_else(|| weight.zeros_like(), |gradient| gradient.detach()))
    };
    (0..errors.size().first().copied().unwrap_or(0)).map(of_row).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::networks::mean_square;

    fn tensor(values: &[f64], shape: &[i64]) -> Tensor {
        Tensor::from_slice(values).view(shape)
    }

    #[test]
    fn in_the_space_of_predictions_it_is_that_of_the_fixture() {
        let winner = tensor(&[0.2, -0.1, 0.3, 0.1], &[1, 4]);
        let loser = tensor(&[0.3, -0.2, 0.5, -0.1], &[1, 4]);
        let (w, l) = (output_gradient(&winner), output_gradient(&loser));
        let product = |a: &Tensor, b: &Tensor| (a * b).sum(Kind::Double).double_value(&[]);
        assert!((product(&w, &l) - 0.055).abs() < 1e-6 && (product(&w, &w) - 0.0375).abs() < 1e-6);
        assert!((ches(&w, &l) - 0.0175).abs() < 1e-6);
    }

    #[test]
    fn of_the_last_layer_it_is_that_of_the_fixture() {
        // Two pictures of two features and two positions, a 1 x 1 convolution to one channel.
        let features = tensor(&[1.0, 0.2, 0.5, -0.3, 0.9, -0.1, 0.4, 0.6], &[2, 2, 1, 2]);
        let weight = tensor(&[0.7, -0.4], &[1, 2, 1, 1]).set_requires_grad(true);
        let prediction = features.conv2d(&weight, None::<&Tensor>, 1, 0, 1, 1);
        let target = prediction.detach() - tensor(&[0.2, -0.1, 0.3, 0.1], &[2, 1, 1, 2]);
        let found = gradients(&mean_square(&(prediction - target)), &weight).unwrap();
        for (gradient, expected) in found.iter().zip([[0.18, 0.13], [0.26, 0.18]]) {
            let numbers = Vec::<f64>::try_from(gradient.view(-1)).unwrap();
            assert!(
                numbers.iter().zip(expected).all(|(found, expected)| (found - expected).abs() < 1e-6),
                "{numbers:?}"
            );
        }
        assert!((ches(&found[0], &found[1]) - 0.0209).abs() < 1e-6);
    }
}
