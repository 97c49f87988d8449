//! Uncertainty of HPSv3 (arXiv 2508.03789; loss as in the authors' trainer): a picture has a normal rating.
//!
//!     L = - E_{z ~ N(mu_w - mu_l, sigma_w^2 + sigma_l^2)} log sigmoid(z)
//!
//! The published code draws 1000 normals in half precision. Here the expectation is a Gauss-Hermite sum of 32 nodes.
//! mu = s f_i . f_c; log sigma = linear([f_i; f_c]), zero weights and bias ln 0.5 at the start.

use super::head::{Batch, Group, Head, Input, Measured, Parameters};
use super::pickscore::similarity;
use super::shared::{both, minus_log_sigmoid};
use std::f64::consts::PI;
use tch::{Device, Kind, Tensor};

crate::keys! {
    /// Keys of [method]: none.
    pub struct Uncertainty {}
}

/// Nodes of the quadrature.
const NODES: usize = 32;

/// Nodes x and weights w with sum w f(x) = integral of exp(-x^2) f(x), by Newton's method on the Hermite polynomial of
/// degree n (Press et al., Numerical Recipes, section 4.6).
pub fn gauss_hermite(n: usize) -> (Vec<f64>, Vec<f64>) {
    let (mut nodes, mut weights) = (vec![0.0; n], vec![0.0; n]);
    let mut z = 0.0f64;
    let size = n as f64;
    for i in 0..n.div_ceil(2) {
        z = match i {
            0 => (2.0 * size + 1.0).sqrt() - 1.85575 * (2.0 * size + 1.0).powf(-1.0 / 6.0),
            1 => z - 1.14 * size.powf(0.426) / z,
            2 => 1.86 * z - 0.86 * nodes[0],
            3 => 1.91 * z - 0.91 * nodes[1],
            _ => 2.0 * z - nodes[i - 2],
        };
        let mut slope = 1.0;
        for _ in 0..50 {
            let (mut p, mut before) = (PI.powf(-0.25), 0.0);
            for j in 0..n {
                let k = j as f64;
                (p, before) = (z * (2.0 / (k + 1.0)).sqrt() * p - (k / (k + 1.0)).sqrt() * before, p);
            }
            slope = (2.0 * size).sqrt() * before;
            let step = p / slope;
            z -= step;
            if step.abs() < 1e-15 {
                break;
            }
        }
        (nodes[i], nodes[n - 1 - i]) = (z, -z);
        weights[i] = 2.0 / (slope * slope);
        weights[n - 1 - i] = weights[i];
    }
    (nodes, weights)
}

/// E f(z), z ~ N(mean, deviation^2); both `[B]`, f elementwise.
fn expected(mean: &Tensor, deviation: &Tensor, f: &dyn Fn(&Tensor) -> Tensor) -> Tensor {
    let (nodes, weights) = gauss_hermite(NODES);
    let at = |values: &[f64]| Tensor::from_slice(values).to_kind(mean.kind()).to_device(mean.device());
    let z = mean.unsqueeze(1) + deviation.unsqueeze(1) * at(&nodes) * 2f64.sqrt(); // [B, nodes]
    (f(&z) * at(&weights) / PI.sqrt()).sum_dim_intlist([1].as_slice(), false, None::<Kind>)
}

/// Loss of each pair: difference of the means `[B]`, sigma of both pictures `[B]`, share of the first `y` `[B]`.
pub fn losses(d: &Tensor, sigma: (&Tensor, &Tensor), y: &Tensor) -> Tensor {
    let deviation = (sigma.0.square() + sigma.1.square()).sqrt();
    let of = |sign: f64| expected(d, &deviation, &|z| minus_log_sigmoid(&(z * sign)));
    y * of(1.0) + (1.0 - y) * of(-1.0)
}

/// Weights of log sigma.
pub struct MeanAndSigma {
    /// `[1, 2 P]`
    weight: Tensor,
    /// `[1]`
    bias: Tensor,
}

impl MeanAndSigma {
    /// The start: sigma is 0.5 everywhere.
    pub fn new(width: i64, device: Device) -> Self {
        Self {
            weight: Tensor::zeros([1, 2 * width], (Kind::Float, device)),
            bias: Tensor::full([1], 0.5f64.ln(), (Kind::Float, device)),
        }
    }
}

impl Head for MeanAndSigma {
    /// `[N, 2]`: mu, log sigma.
    fn outputs(&self, input: &Input) -> Tensor {
        let both = Tensor::cat(&[input.images, &input.prompts.select(1, 0)], 1);
        let log_sigma = both.linear(&self.weight, Some(&self.bias));
        Tensor::cat(&[similarity(input), log_sigma], 1)
    }

    fn losses(&self, outputs: &Tensor, batch: &Batch) -> Tensor {
        let (d, sigma_w, sigma_l) = parts(&outputs.view([-1, 2, 2]));
        losses(&d, (&sigma_w, &sigma_l), &batch.share)
    }

    fn probabilities(&self, pairs: &Tensor) -> Tensor {
        let (d, sigma_w, sigma_l) = parts(pairs);
        expected(&d, &(sigma_w.square() + sigma_l.square()).sqrt(), &|z| z.sigmoid())
    }

    fn measures(&self) -> Vec<Measured> {
        vec![Measured::plain("mu"), Measured::neutral("sigma")]
    }

    fn numbers(&self, outputs: &Tensor) -> Tensor {
        Tensor::cat(&[outputs.narrow(1, 0, 1), outputs.narrow(1, 1, 1).exp()], 1)
    }

    fn groups(&self) -> Vec<Group> {
        vec![Group::plain(self.parameters())]
    }

    fn parameters(&self) -> Parameters {
        vec![("sigma.weight".into(), self.weight.shallow_clone()), ("sigma.bias".into(), self.bias.shallow_clone())]
    }
}

/// Difference of the means, sigma of both pictures, of pairs `[B, 2, 2]`.
fn parts(pairs: &Tensor) -> (Tensor, Tensor, Tensor) {
    let (first, second) = both(pairs);
    (first.select(1, 0) - second.select(1, 0), first.select(1, 1).exp(), second.select(1, 1).exp())
}
