//! The machine under a run: files that appear whole, hashes of files, disk and memory.

pub mod disk;
pub mod files;
pub mod hashes;
pub mod memory;
