//! The recipes of `configs/`.

mod published;
mod sampling;
