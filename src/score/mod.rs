//! `diffpref score`: numbers of pictures by scorers. [`read_scores`] reads them back.

mod duels;
mod input;
mod memory;
mod output;
mod parquet;
mod pictures;
mod rater;
mod report;
mod run;
mod summary;

pub use input::{Columns, Row, read as read_pictures};
pub use output::{ScoredRow, read_scores};
pub use run::{Request, score};
pub use summary::{Agreement, Column, Comparisons, ScoredBy, Summary, Unreadable};
