//! Models on pairs, without generation: implicit rewards, ranking accuracy and CHES (docs/eval.md).

mod ches;
mod figures;
mod measure;
mod request;
mod run;

pub use request::{PairsRequest, TrainedOn};
pub use run::judge;
