//! Files that hold many images: single images are read at their place, never whole files.

pub(super) mod parquet;
pub(super) mod tar;
