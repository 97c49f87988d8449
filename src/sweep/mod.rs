//! `diffpref sweep`: many trials from one file, ranked. Trials run one after the other in one process, or are claimed by
//! several workers; the answer is computed from the files of the trials alone.

mod answer;
mod asha;
mod axis;
mod choice;
mod claims;
mod curves;
mod draw;
mod effects;
mod estimate;
mod expand;
mod figures;
mod file;
mod folder;
mod judge;
mod ledger;
mod markdown;
mod metric;
mod next;
mod owner;
mod page;
mod plan;
mod points;
mod pulse;
mod row;
mod significance;
mod text;
mod winner;
mod work;
mod worker;

pub use answer::Answer;
pub use estimate::{Estimate, estimate};
pub use folder::Folder;
pub use ledger::{Entries, FILE as DATABASE, Ledger};
pub use page::write;
pub use text::{in_words, listed};
pub use worker::{Done, work};
