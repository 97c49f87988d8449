//! Formats of preference data: one file per format. A reader turns files into rows of one form.

mod files;
mod folders;
mod format;
mod house_rows;
mod hpdv2;
mod hpdv3;
mod imagefolder;
mod imagereward;
mod jsonl;
mod lines;
mod parquet_pairs;
mod pickapic;
mod ranked;
mod registry;
mod source;
mod tables;
mod webdataset;

pub use files::Files;
pub use format::Format;
pub use registry::{Opened, open};
