//! `diffpref generate`: pictures, prompts, samplers, negative models, tiles.

mod compare;
mod families;
mod negative;
mod pictures;
mod prompts;
mod sampled;
mod tiling;
