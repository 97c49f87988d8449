//! Fused and foreach kernels, CUDA loading, memory statistics.

use crate::{Result, checked};
use std::ffi::c_char;
use tch::Tensor;
use torch_sys::C_tensor;

unsafe extern "C" {
    fn dp_fused_adamw(
        params: *const *mut C_tensor,
        grads: *const *mut C_tensor,
        exp_avgs: *const *mut C_tensor,
        exp_avg_sqs: *const *mut C_tensor,
        steps: *const *mut C_tensor,
        n: i64,
        lr: f64,
        beta1: f64,
        beta2: f64,
        weight_decay: f64,
        eps: f64,
        error: *mut *mut c_char,
    );
    fn dp_global_norm(grads: *const *mut C_tensor, n: i64, error: *mut *mut c_char) -> f64;
    fn dp_scale(list: *const *mut C_tensor, n: i64, factor: f64, error: *mut *mut c_char);
    fn dp_cuda_peak_bytes(device: i64, error: *mut *mut c_char) -> i64;
    fn dp_cuda_free_bytes(device: i64, error: *mut *mut c_char) -> i64;
}

fn pointers(list: &[Tensor]) -> Vec<*mut C_tensor> {
    list.iter().map(|t| t.as_ptr() as *mut C_tensor).collect()
}

/// Hyperparameters of one `torch.optim.AdamW` step.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct FusedAdamW {
    pub lr: f64,
    pub betas: (f64, f64),
    pub weight_decay: f64,
    pub eps: f64,
}

impl FusedAdamW {
    /// One step in place. The five lists run in parallel; `steps` are float32 scalars counted up by the kernel.
    ///
    /// # Errors
    /// When libtorch refuses the tensors (different shapes, devices, kinds).
    pub fn step(
        &self,
        params: &[Tensor],
        grads: &[Tensor],
        exp_avgs: &[Tensor],
        exp_avg_sqs: &[Tensor],
        steps: &[Tensor],
    ) -> Result<()> {
        let n = params.len();
        assert!([grads.len(), exp_avgs.len(), exp_avg_sqs.len(), steps.len()].iter().all(|l| *l == n));
        let lists = [params, grads, exp_avgs, exp_avg_sqs, steps].map(pointers);
        checked(|e| unsafe {
            dp_fused_adamw(
                lists[0].as_ptr(),
                lists[1].as_ptr(),
                lists[2].as_ptr(),
                lists[3].as_ptr(),
                lists[4].as_ptr(),
                n as i64,
                self.lr,
                self.betas.0,
                self.betas.1,
                self.weight_decay,
                self.eps,
                e,
            )
        })
    }
}

/// The total norm that `torch.nn.utils.clip_grad_norm_` computes: the 2-norm of the tensors' 2-norms. 0 for no tensors.
pub fn global_norm(grads: &[Tensor]) -> Result<f64> {
    if grads.is_empty() {
        return Ok(0.0);
    }
    let list = pointers(grads);
    checked(|e| unsafe { dp_global_norm(list.as_ptr(), list.len() as i64, e) })
}

/// Multiplies every tensor by `factor` in place.
pub fn scale_(tensors: &[Tensor], factor: f64) -> Result<()> {
    let list = pointers(tensors);
    checked(|e| unsafe { dp_scale(list.as_ptr(), list.len() as i64, factor, e) })
}

/// Peak of the bytes allocated on CUDA device `device` by this process.
pub fn cuda_peak_bytes(device: usize) -> Result<i64> {
    checked(|e| unsafe { dp_cuda_peak_bytes(device as i64, e) })
}

/// Bytes that can still be allocated on CUDA device `device`: what the card has free, and what this process holds of it
/// without using it.
pub fn cuda_free_bytes(device: usize) -> Result<i64> {
    checked(|e| unsafe { dp_cuda_free_bytes(device as i64, e) })
}

/// Loads libtorch_cuda.so when it lies beside libtorch_cpu.so, so that one binary serves CPU and GPU set-ups.
///
/// Must run before anything else asks libtorch about CUDA (also before `manual_seed` and any backward): a process
/// that asked once never sees the card. `Ok(false)`: the library is not there.
///
/// # Errors
/// The library is there and cannot be loaded; the text says which of its own libraries is missing.
pub fn load_cuda() -> std::result::Result<bool, String> {
    use libloading::os::unix::{Library, RTLD_GLOBAL, RTLD_NOW};
    // SAFETY: libtorch_cuda's initialisers only register kernels; the handle is never closed.
    match unsafe { Library::open(Some("libtorch_cuda.so"), RTLD_NOW | RTLD_GLOBAL) } {
        Ok(library) => {
            std::mem::forget(library);
            Ok(true)
        }
        Err(error) => {
            let detail = std::error::Error::source(&error).map(|s| s.to_string()).unwrap_or_else(|| error.to_string());
            if detail.contains("libtorch_cuda.so: cannot open shared object file") { Ok(false) } else { Err(detail) }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tch::Kind;

    #[test]
    fn one_fused_step_equals_adamw_by_hand() {
        let p = Tensor::from_slice(&[1.0f64, -2.0]);
        let g = Tensor::from_slice(&[0.5f64, 0.25]);
        let (m, v) = (p.zeros_like(), p.zeros_like());
        let step = Tensor::zeros([], (Kind::Float, tch::Device::Cpu));
        let adamw = FusedAdamW { lr: 0.1, betas: (0.9, 0.999), weight_decay: 0.01, eps: 1e-8 };
        let share = |t: &Tensor| [t.shallow_clone()];
        adamw.step(&share(&p), &share(&g), &share(&m), &share(&v), &share(&step)).unwrap();
        for (i, (p0, g0)) in [(1.0f64, 0.5f64), (-2.0, 0.25)].into_iter().enumerate() {
            let expected = p0 * (1.0 - 0.1 * 0.01) - 0.1 * g0 / (g0.abs() + 1e-8);
            assert!((p.double_value(&[i as i64]) - expected).abs() < 1e-9);
        }
        assert_eq!(step.double_value(&[]), 1.0);
    }

    #[test]
    fn the_global_norm_is_that_of_all_elements_together() {
        let list = [Tensor::from_slice(&[3.0f32]), Tensor::from_slice(&[0.0f32, 4.0])];
        assert!((global_norm(&list).unwrap() - 5.0).abs() < 1e-6);
        assert_eq!(global_norm(&[]).unwrap(), 0.0);
    }
}
