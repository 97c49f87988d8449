//! The SDPO safeguard: "Safeguarded Direct Preference Optimization for Diffusion Models", arXiv 2511.03317
//! (docs/methods.md, section 11c). It scales down the loser's gradient where that works against the winner.
//!
//! ```text
//! g_w, g_l = gradients of the winner's and the loser's error with respect to their predictions
//! lam = clamp((1 - mu) |g_w|^2 / (<g_w, g_l> + 1e-9), 0, 1) if <g_w, g_l> > 0, else 1
//! dL/de_theta(l) <- lam dL/de_theta(l)
//! ```
//!
//! The public code has one lam per micro-batch, ours one per pair.

use tch::Tensor;

const TINY: f64 = 1e-9;

/// lam of each pair, `[n]`. `theta_w`: e_theta(w); `product`: mean over C, H, W of the winner's residual times the loser's;
/// `numel`: C H W. Gradients are 2 / numel times the residuals.
pub fn lam(mu: f64, theta_w: &Tensor, product: &Tensor, numel: i64) -> Tensor {
    let scale = 4.0 / numel as f64;
    let (own, common) = (theta_w * scale, product * scale);
    let lam = (own * (1.0 - mu) / (&common + TINY)).clamp(0.0, 1.0);
    lam.where_self(&common.gt(0.0), &lam.ones_like())
}
