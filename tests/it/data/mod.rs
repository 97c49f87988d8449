//! Readers, transforms, caches, batches and draws; the bundled data.

mod batches;
mod demo;
mod draws;
mod items;
mod readers;
mod relabelled;
mod transforms;
