//! Models side by side: the same prompts and seeds, painted, scored, and compared prompt by prompt.

mod album;
mod diversity;
mod figures;
mod gallery;
mod groups;
pub mod implicit;
mod labellers;
mod prompts;
mod run;
mod scores;

pub use groups::{Cell, PromptGroup, groups, plan};
pub use labellers::Teachers;
pub use prompts::{Prompt, read_prompts};
pub use run::{Request, evaluate};
