//! lambda(t) of timestep-aware training: "Rethinking Direct Preference Optimization in Diffusion Models", arXiv 2505.18736
//! (docs/methods.md, section 2b). It multiplies the logit, most at high noise.
//!
//! ```text
//! lambda(t) = 1 + norm(1 / sqrt(SNR(t))),   norm = min-max over t: in [1, 2]
//! ```

/// lambda of every timestep. With zero terminal SNR the last 1/sqrt(SNR) is infinite: it counts as the largest finite one.
pub fn lambda(alphas_cumprod: &[f64]) -> Vec<f64> {
    let inverse = |abar: &f64| ((1.0 - abar) / abar).sqrt();
    let values: Vec<f64> = alphas_cumprod.iter().map(inverse).collect();
    let finite = || values.iter().copied().filter(|x| x.is_finite());
    let (low, high) = (finite().fold(f64::INFINITY, f64::min), finite().fold(0.0, f64::max));
    values.iter().map(|x| 1.0 + (x.min(high) - low) / (high - low)).collect()
}
