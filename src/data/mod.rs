//! Rows -> pairs -> transforms -> cache -> batches, and the named random streams.

mod ahead;
pub mod batches;
pub mod cache;
pub mod decode;
pub mod disk;
pub mod draws;
pub mod files;
pub mod items;
pub mod jpeg;
pub mod pairs;
mod records;
pub mod report;
mod rows;
pub mod text_cache;
pub mod transforms;
