//! `diffpref merge`: weight algebra over models and LoRAs (docs/methods.md 6 and 16).
//!
//! Every operation is one sum, `frame + sum_i weight_i (to_i - from_i)`, written as a model or as a LoRA. Sums are in
//! float64 and rounded once, when they are written.

mod inputs;
mod operation;
mod recipe;
mod result;
mod run;

pub use operation::{AsLora, Operation, Request, Weighted};
pub use result::{Loss, Summary};
pub use run::run;
