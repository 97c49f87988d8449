//! The machine under a run: devices, memory, disk, files that appear whole, hashes of files, time of day.

pub mod bytes;
pub mod clock;
pub mod devices;
pub mod disk;
pub mod files;
pub mod hashes;
pub mod memory;
