//! `diffpref data convert` as a library call: any format to our jsonl with a folder of images, WebDataset shards, or parquet.

mod jsonl;
mod parquet;
mod run;
mod webdataset;
mod writer;
mod written;

pub use run::{ConvertRequest, Converted, Target, convert};
