//! `torch.Generator("cpu")` as a value: draws never touch the process-wide generator.

use crate::{NativeError, Result, checked};
use std::ffi::{c_char, c_int, c_void};
use tch::Tensor;
use torch_sys::C_tensor;

unsafe extern "C" {
    fn dp_generator(seed: u64, error: *mut *mut c_char) -> *mut c_void;
    fn dp_generator_free(g: *mut c_void);
    fn dp_randn(g: *mut c_void, shape: *const i64, dims: i64, error: *mut *mut c_char) -> *mut C_tensor;
    fn dp_rand(g: *mut c_void, in_double: c_int, error: *mut *mut c_char) -> f64;
    fn dp_randint(g: *mut c_void, high: i64, error: *mut *mut c_char) -> i64;
    fn dp_randperm(g: *mut c_void, n: i64, error: *mut *mut c_char) -> *mut C_tensor;
}

/// A CPU generator. `Generator::cpu(s)` followed by a draw equals
/// `torch.Generator("cpu").manual_seed(s)` followed by the same draw in Python.
pub struct Generator(*mut c_void);

// SAFETY: the at::Generator behind the pointer is owned by this value alone and has its own mutex.
unsafe impl Send for Generator {}

impl Generator {
    /// A generator seeded as `manual_seed(seed)` does.
    pub fn cpu(seed: u64) -> Self {
        // createCPUGenerator allocates a few kilobytes; it can only fail as any allocation can.
        match checked(|e| unsafe { dp_generator(seed, e) }) {
            Ok(g) => Self(g),
            Err(NativeError(text)) => panic!("no CPU generator: {text}"),
        }
    }

    /// `torch.randn(shape)` in float32.
    pub fn randn(&mut self, shape: &[i64]) -> Tensor {
        match checked(|e| unsafe { dp_randn(self.0, shape.as_ptr(), shape.len() as i64, e) }) {
            // SAFETY: the shim returns a fresh at::Tensor that nobody else holds.
            Ok(t) => unsafe { Tensor::from_ptr(t) },
            Err(NativeError(text)) => panic!("randn{shape:?}: {text}"),
        }
    }

    /// `torch.rand(1)`: float32 in [0, 1).
    pub fn rand(&mut self) -> f64 {
        self.uniform(0)
    }

    /// `torch.rand(1, dtype=torch.float64)`: laws of the timestep are drawn in float64.
    pub fn rand_f64(&mut self) -> f64 {
        self.uniform(1)
    }

    fn uniform(&mut self, in_double: c_int) -> f64 {
        checked(|e| unsafe { dp_rand(self.0, in_double, e) }).unwrap_or_else(|e| panic!("rand: {e}"))
    }

    /// `torch.randint(0, high, (1,))`; `high` must be positive.
    pub fn randint(&mut self, high: i64) -> Result<i64> {
        checked(|e| unsafe { dp_randint(self.0, high, e) })
    }

    /// `torch.randperm(n)`.
    pub fn randperm(&mut self, n: i64) -> Result<Vec<i64>> {
        let t = checked(|e| unsafe { dp_randperm(self.0, n, e) })?;
        // SAFETY: as in `randn`.
        let t = unsafe { Tensor::from_ptr(t) };
        Vec::<i64>::try_from(&t).map_err(|e| NativeError(e.to_string()))
    }
}

impl Drop for Generator {
    fn drop(&mut self) {
        unsafe { dp_generator_free(self.0) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_generator_equals_manual_seed_and_is_untouched_by_the_global_one() {
        let mut own = Generator::cpu(42);
        let _ = Tensor::randn([100], tch::kind::FLOAT_CPU);
        let ours = own.randn(&[4, 16]);
        tch::manual_seed(42);
        let theirs = Tensor::randn([4, 16], tch::kind::FLOAT_CPU);
        assert!(ours.equal(&theirs));
    }

    #[test]
    fn randperm_is_a_permutation_and_randint_refuses_an_empty_range() {
        let mut order = Generator::cpu(7).randperm(10).unwrap();
        order.sort();
        assert_eq!(order, (0..10).collect::<Vec<i64>>());
        assert!(Generator::cpu(7).randint(0).is_err());
    }
}
