//! MORE (arXiv 2312.07401; dunzeng/MORE `trainer.py`, `min_norm_solvers.py`): one scorer on several data sets, by a
//! direction that worsens none of them.
//!
//!     r = s <h, f_i * f_c>;   L_k: the loss of PickScore on a batch of set k;   g_k = dL_k / dh
//!     lambda = argmin over the simplex of |sum_k lambda_k g_k|^2;   L = sum_k lambda_k L_k
//!
//! Ours: the score head is h, which starts at ones, where r is PickScore. Every pair weighs alike.

use super::head::{Batch, Group, Head, Input, Measured, Parameters};
use super::pickscore::{difference, difference_of, losses};
use super::shared::sum_last;
use tch::{Device, Kind, Tensor};

crate::keys! {
    /// Keys of [method].
    pub struct More {}
}

/// Most sweeps over all pairs of sets, and the change of lambda that ends them.
const SWEEPS: usize = 1000;
const SMALL: f64 = 1e-12;

/// lambda of sets with the products `products[k][l]` of their gradients: moves weight between two sets at a time, each
/// time to the exact minimum. For two sets that is the closed form of Frank-Wolfe.
pub fn shares(products: &[Vec<f64>]) -> Vec<f64> {
    let n = products.len();
    let mut shares = vec![1.0 / n as f64; n];
    for _ in 0..SWEEPS {
        let mut moved: f64 = 0.0;
        for i in 0..n {
            for j in 0..i {
                let along = |k: usize| (0..n).map(|l| products[k][l] * shares[l]).sum::<f64>();
                let curvature = products[i][i] - 2.0 * products[i][j] + products[j][j];
                // Equal gradients: any division is as good.
                if curvature <= 0.0 {
                    continue;
                }
                let step = ((along(j) - along(i)) / curvature).clamp(-shares[i], shares[j]);
                shares[i] += step;
                shares[j] -= step;
                moved = moved.max(step.abs());
            }
        }
        if moved < SMALL {
            break;
        }
    }
    shares
}

/// The head h.
pub struct Elementwise {
    /// `[P]`
    weights: Tensor,
}

impl Elementwise {
    /// h = ones. `width`: P.
    pub fn new(width: i64, device: Device) -> Self {
        Self { weights: Tensor::ones([width], (Kind::Float, device)) }
    }
}

impl Head for Elementwise {
    /// `[N, 1]`
    fn outputs(&self, input: &Input) -> Tensor {
        sum_last(&(input.images * input.prompts.select(1, 0) * &self.weights)).unsqueeze(1) * input.scale
    }

    fn losses(&self, outputs: &Tensor, batch: &Batch) -> Tensor {
        losses(&difference(outputs), &batch.share)
    }

    fn probabilities(&self, pairs: &Tensor) -> Tensor {
        difference_of(pairs).sigmoid()
    }

    fn measures(&self) -> Vec<Measured> {
        vec![Measured::plain("more")]
    }

    fn parameters(&self) -> Parameters {
        vec![("weights".into(), self.weights.shallow_clone())]
    }

    fn groups(&self) -> Vec<Group> {
        // Decay pulls to zero, and the start is one.
        vec![Group::fast(self.parameters(), 1.0)]
    }
}
