//! Models side by side: the same prompts and seeds, painted, scored, and compared prompt by prompt.

mod album;
mod diversity;
mod figures;
mod gallery;
mod groups;
mod labellers;
mod models;
mod prompts;
mod run;
mod scores;
mod signs;

pub use groups::{Cell, PromptGroup, groups, plan};
pub use labellers::labellers_of;
pub use models::{NamedModel, models_of_run};
pub use prompts::{Prompt, read_prompts};
pub use run::{Request, evaluate};
