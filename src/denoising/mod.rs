//! Models and their errors on pictures of files, at shared noise levels and noise: nothing is generated.

mod errors;
mod models;
mod opened;
mod source;

pub use errors::{Errors, errors};
pub use models::{NamedModel, models_of_run};
pub use opened::{Opened, Options, Space};
pub use source::Source;
