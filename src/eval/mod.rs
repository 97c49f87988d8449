//! Models side by side: the same prompts and seeds, painted, judged, and compared name by name.

pub mod figures;
pub mod intervals;
mod measures;
mod models;
mod names;
mod pictures;
mod run;

pub use figures::Evaluation;
pub use measures::per_name;
pub use models::{NamedModel, models_of_run};
pub use names::{Name, read_names};
pub use pictures::{Place, plan};
pub use run::{Request, evaluate};
