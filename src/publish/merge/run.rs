//! `diffpref merge` as a library call.

use super::inputs::Inputs;
use super::operation::{Operation, Request, refused};
use super::recipe;
use super::result::{self, Summary};
use crate::progress::{Progress, Stop};
use anyhow::Result;

/// Merges the inputs of a request. The result appears once it is whole; existing files are never overwritten.
///
/// # Errors
/// [`ConfigError`](crate::settings::ConfigError) for wrong options (exit code 2); every error of models and LoRAs;
/// [`crate::progress::Stopped`] between two tensors after a signal.
pub fn run(request: &Request, stop: &Stop, progress: &dyn Progress) -> Result<Summary> {
    let out = request.out.display();
    if request.out.exists() {
        return Err(refused(format!("--out {out}: it exists already, and nothing is written over; name another")));
    }
    if let Operation::Npo { alpha, beta, .. } = &request.operation {
        for (name, value) in [("alpha", alpha), ("beta", beta)] {
            if !value.is_finite() {
                return Err(refused(format!("--{name} {value}: expected a finite number; NPO publishes 1")));
            }
        }
    }
    let inputs = Inputs::open(recipe::of(&request.operation)?, progress)?;
    let format = result::format(request, &inputs)?;
    match format.is_lora() {
        true => result::write_lora(request, &inputs, format, stop, progress),
        false => result::write_model(request, &inputs, format, stop, progress),
    }
}
