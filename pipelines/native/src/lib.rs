//! What tch lacks and libtorch has: CPU generators as values, the fused AdamW kernel, the gradient norm of
//! `clip_grad_norm_`, loading CUDA into a process that was linked without it, recomputing instead of storing.

mod checkpoint;
mod generator;
mod kernels;

pub use checkpoint::{checkpoint, grad_enabled};
pub use generator::Generator;
pub use kernels::{FusedAdamW, cuda_free_bytes, cuda_peak_bytes, global_norm, load_cuda, scale_};

use std::ffi::{CStr, c_char};

/// The version of the libtorch that this was built with.
pub const LIBTORCH_VERSION: &str = env!("DIFFPREF_LIBTORCH_VERSION");

/// libtorch refused a call; the text is libtorch's own, without its backtrace.
#[derive(Debug, thiserror::Error)]
#[error("libtorch: {0}")]
pub struct NativeError(pub String);

pub type Result<T> = std::result::Result<T, NativeError>;

unsafe extern "C" {
    fn dp_free(text: *mut c_char);
}

/// Runs a shim call and turns its error text into a `NativeError`.
fn checked<T>(call: impl FnOnce(*mut *mut c_char) -> T) -> Result<T> {
    let mut error: *mut c_char = std::ptr::null_mut();
    let value = call(&mut error);
    if error.is_null() {
        return Ok(value);
    }
    // SAFETY: the shim hands out a malloc'd, NUL-terminated text and forgets it.
    let text = unsafe { CStr::from_ptr(error) }.to_string_lossy().into_owned();
    unsafe { dp_free(error) };
    Err(NativeError(text))
}
