//! Gradient checkpointing: a part of a network that is computed again in the backward pass (arXiv 1604.06174).

use crate::{Result, checked};
use std::any::Any;
use std::ffi::{c_char, c_void};
use std::mem::ManuallyDrop;
use std::panic::{AssertUnwindSafe, catch_unwind};
use tch::Tensor;
use torch_sys::C_tensor;

type Call = unsafe extern "C" fn(*mut c_void, *const *mut C_tensor, i64, *mut *mut c_char) -> *mut C_tensor;
type Release = unsafe extern "C" fn(*mut c_void);

unsafe extern "C" {
    fn dp_text(bytes: *const c_char, length: i64) -> *mut c_char;
    fn dp_grad_enabled() -> bool;
    fn dp_checkpoint(
        data: *mut c_void,
        call: Call,
        release: Release,
        inputs: *const *mut C_tensor,
        count: i64,
        n: i64,
        error: *mut *mut c_char,
    ) -> *mut C_tensor;
}

/// Whether operations of this thread are recorded for a backward pass.
pub fn grad_enabled() -> bool {
    // SAFETY: reads a thread-local flag.
    unsafe { dp_grad_enabled() }
}

/// `part(inputs)`, of which only `inputs` are kept for the backward pass, where `part` runs once more.
///
/// `leaves` are the leaf tensors that `part` reads beside its inputs: one that is missing gets no gradient through this
/// part. `part` must compute the same every time; with CUDA its second run is on another thread, while the one that
/// called backward waits. The gradient is that of `part` itself, also where a part contains checkpoints of its own; there
/// is no second derivative. Without anything to differentiate, `part` is simply called.
///
/// # Errors
/// When `part` panics: the text is the panic's. A panic in the backward pass is an error of that backward.
pub fn checkpoint<F>(part: F, inputs: &[&Tensor], leaves: &[&Tensor]) -> Result<Tensor>
where
    F: Fn(&[Tensor]) -> Tensor + Send + 'static,
{
    let all: Vec<*mut C_tensor> = inputs.iter().chain(leaves).map(|t| t.as_ptr() as *mut C_tensor).collect();
    let data = Box::into_raw(Box::new(part)).cast::<c_void>();
    let (count, n) = (inputs.len() as i64, all.len() as i64);
    // SAFETY: `call` and `release` are those of the type behind `data`, which the shim owns from here on.
    let made = checked(|e| unsafe { dp_checkpoint(data, call::<F>, release::<F>, all.as_ptr(), count, n, e) })?;
    // SAFETY: without an error the shim returns a fresh at::Tensor that nobody else holds.
    Ok(unsafe { Tensor::from_ptr(made) })
}

/// Runs the part behind `data`. A panic must not cross the C++ frames above: it becomes a text.
unsafe extern "C" fn call<F: Fn(&[Tensor]) -> Tensor>(
    data: *mut c_void,
    inputs: *const *mut C_tensor,
    n: i64,
    error: *mut *mut c_char,
) -> *mut C_tensor {
    // SAFETY: `data` is the box of `checkpoint`, alive until `release`; `inputs` are n tensors that outlive the call.
    let (part, pointers) = unsafe { (&*data.cast::<F>(), std::slice::from_raw_parts(inputs, n as usize)) };
    let run = || {
        let inputs: Vec<Tensor> = pointers.iter().map(|p| unsafe { Tensor::clone_from_ptr(*p) }).collect();
        part(&inputs)
    };
    match catch_unwind(AssertUnwindSafe(run)) {
        Ok(tensor) => ManuallyDrop::new(tensor).as_mut_ptr(), // the caller owns it now
        Err(panic) => {
            let text = panic_text(panic.as_ref());
            // SAFETY: dp_text copies the bytes.
            unsafe { *error = dp_text(text.as_ptr().cast(), text.len() as i64) };
            std::ptr::null_mut()
        }
    }
}

unsafe extern "C" fn release<F>(data: *mut c_void) {
    // SAFETY: the shim calls this once, for the box that `checkpoint` made.
    let part = unsafe { Box::from_raw(data.cast::<F>()) };
    let _ = catch_unwind(AssertUnwindSafe(move || drop(part)));
}

/// What a panic says, without libtorch's backtrace.
fn panic_text(panic: &(dyn Any + Send)) -> &str {
    let text = panic.downcast_ref::<String>().map(String::as_str);
    let text = text.or_else(|| panic.downcast_ref::<&str>().copied()).unwrap_or("a recomputed part panicked");
    // A panic by unwrap shows the text of libtorch with its line breaks escaped.
    let text = text.split("Exception raised from").next().unwrap_or(text);
    text.trim_end_matches("\\n").trim_end()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Arc;
    use std::sync::atomic::{AtomicUsize, Ordering};
    use tch::{Device, Kind};

    fn leaf(values: &[f64]) -> Tensor {
        Tensor::from_slice(values).set_requires_grad(true)
    }

    /// tanh(w x) x, and how often it ran.
    fn part(w: &Tensor, runs: &Arc<AtomicUsize>) -> impl Fn(&[Tensor]) -> Tensor + Send + 'static {
        let (w, runs) = (w.shallow_clone(), runs.clone());
        move |inputs| {
            runs.fetch_add(1, Ordering::SeqCst);
            (&w * &inputs[0]).tanh() * &inputs[0]
        }
    }

    #[test]
    fn gradients_are_those_of_the_part_itself_by_backward_and_by_run_backward() {
        let (w, x, runs) = (leaf(&[0.3, -2.0]), leaf(&[1.5, 0.7]), Arc::new(AtomicUsize::new(0)));
        let plain = part(&w, &runs)(&[&x * 2.0]).sum(Kind::Double);
        let expected = Tensor::run_backward(&[plain], &[&w, &x], false, false);
        let made = || checkpoint(part(&w, &runs), &[&(&x * 2.0)], &[&w]).unwrap().sum(Kind::Double);
        let found = Tensor::run_backward(&[made()], &[&w, &x], false, false);
        assert!(found.iter().zip(&expected).all(|(a, b)| a.equal(b)));
        made().backward();
        assert!(w.grad().equal(&expected[0]) && x.grad().equal(&expected[1]));
        assert_eq!(runs.load(Ordering::SeqCst), 1 + 2 + 2);
    }

    #[test]
    fn a_part_may_contain_checkpoints_of_its_own() {
        let (w, x, runs) = (leaf(&[0.3, -2.0]), leaf(&[1.5, 0.7]), Arc::new(AtomicUsize::new(0)));
        let plain = part(&w, &runs)(&[part(&w, &runs)(&[x.shallow_clone()])]).sum(Kind::Double);
        let expected = Tensor::run_backward(&[plain], &[&w, &x], false, false);
        let (inner, leaf) = (w.shallow_clone(), w.shallow_clone());
        let counted = runs.clone();
        let outer = move |inputs: &[Tensor]| {
            let first = checkpoint(part(&inner, &counted), &[&inputs[0]], &[&inner]).unwrap();
            part(&inner, &counted)(&[first])
        };
        let made = checkpoint(outer, &[&x], &[&leaf]).unwrap().sum(Kind::Double);
        let found = Tensor::run_backward(&[made], &[&w, &x], false, false);
        assert!(found.iter().zip(&expected).all(|(a, b)| a.equal(b)));
    }

    #[test]
    fn a_part_runs_once_and_is_dropped_at_once_where_nothing_is_differentiated() {
        let (w, x, runs) = (leaf(&[0.3]), leaf(&[1.5]), Arc::new(AtomicUsize::new(0)));
        let _frozen = tch::no_grad_guard();
        assert!(!grad_enabled());
        let made = checkpoint(part(&w, &runs), &[&x], &[&w]).unwrap();
        assert!(!made.requires_grad());
        assert_eq!((runs.load(Ordering::SeqCst), Arc::strong_count(&runs)), (1, 1));
    }

    #[test]
    fn the_graph_lets_go_of_a_part_when_it_goes() {
        let (w, x, runs) = (leaf(&[0.3]), leaf(&[1.5]), Arc::new(AtomicUsize::new(0)));
        assert!(grad_enabled());
        let made = checkpoint(part(&w, &runs), &[&x], &[&w]).unwrap();
        assert_eq!(Arc::strong_count(&runs), 2);
        drop(made);
        assert_eq!(Arc::strong_count(&runs), 1);
    }

    #[test]
    fn a_panic_is_an_error_of_forward_or_of_backward_and_nothing_is_lost() {
        let (w, runs) = (leaf(&[0.3]), Arc::new(AtomicUsize::new(0)));
        let failing = |at: usize| {
            let (inner, runs) = (part(&w, &runs), runs.clone());
            move |inputs: &[Tensor]| {
                let made = inner(inputs);
                assert!(runs.load(Ordering::SeqCst) != at, "run {at} fails");
                made
            }
        };
        let x = Tensor::ones([1], (Kind::Double, Device::Cpu));
        let error = checkpoint(failing(1), &[&x], &[&w]).unwrap_err().to_string();
        assert_eq!(error, "libtorch: run 1 fails");
        let made = checkpoint(failing(3), &[&x], &[&w]).unwrap();
        let error = made.f_backward().unwrap_err().to_string();
        assert!(error.contains("run 3 fails"), "{error}");
        drop(made);
        assert_eq!(Arc::strong_count(&runs), 1);
        assert!(grad_enabled(), "the panic left gradients off");
    }

    #[test]
    fn what_libtorch_refuses_inside_is_said_without_its_backtrace() {
        let bad = |inputs: &[Tensor]| inputs[0].matmul(&inputs[0]);
        let x = Tensor::ones([2, 3], (Kind::Float, Device::Cpu)).set_requires_grad(true);
        let error = checkpoint(bad, &[&x], &[]).unwrap_err().to_string();
        assert!(
            error.contains("mat1 and mat2 shapes cannot be multiplied") && !error.contains("raised from"),
            "{error}"
        );
    }

    #[test]
    fn a_second_derivative_is_refused() {
        let (w, x, runs) = (leaf(&[0.3]), leaf(&[1.5]), Arc::new(AtomicUsize::new(0)));
        let made = checkpoint(part(&w, &runs), &[&x], &[&w]).unwrap();
        let error = Tensor::f_run_backward(&[made], &[&w], true, true).unwrap_err().to_string();
        assert!(error.contains("a checkpointed part has no second derivative"), "{error}");
    }
}
