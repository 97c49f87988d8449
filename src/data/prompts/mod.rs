//! Prompt files: txt, csv, tsv, jsonl, parquet. Texts are UTF-8, with or without a byte-order mark; lines end as on
//! Unix or on Windows.

mod columns;
mod encoding;
mod file;
mod parquet;

pub use encoding::text;
pub use file::read;
