//! Rows -> items -> transforms -> cache -> batches, and the named random streams.

mod ahead;
pub mod batches;
pub mod cache;
pub mod decode;
pub mod draws;
pub(crate) mod index;
pub mod items;
pub mod jpeg;
mod positions;
pub mod prompts;
pub mod ranking;
mod records;
pub mod report;
mod rows;
pub mod text_cache;
pub mod timesteps;
pub mod transforms;
pub mod weights;
