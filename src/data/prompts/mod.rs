//! Prompt files: txt, csv, tsv, jsonl, parquet. Texts are UTF-8, with or without a byte-order mark; lines end
//! with LF, CR LF or CR.

mod columns;
mod encoding;
mod file;
mod parquet;
mod table;

pub use columns::pick;
pub use encoding::text;
pub use file::read;
pub use table::{Table, separator};
