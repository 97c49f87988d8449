//! The machine under a run: files that appear whole, hashes of files, disk, memory, time of day.

pub mod clock;
pub mod disk;
pub mod files;
pub mod hashes;
pub mod memory;
