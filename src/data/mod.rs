//! Rows -> items -> transforms -> cache -> batches, and the named random streams.

mod ahead;
pub mod batch;
pub mod batches;
pub mod cache;
pub mod decode;
pub mod draws;
pub mod encoding;
pub(crate) mod index;
mod item;
pub mod items;
pub mod jpeg;
mod positions;
pub mod prompts;
pub mod ranking;
mod read_options;
mod records;
pub mod report;
pub mod resample;
mod rows;
pub mod text_cache;
pub mod timesteps;
pub mod transforms;
pub mod unreadable;
pub mod weights;
