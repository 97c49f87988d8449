//! `diffpref generate`: pictures, prompts, samplers, negative models, tiles.

mod compare;
mod families;
mod negative;
mod not_finite;
mod pictures;
mod prompts;
mod refusals;
mod sampled;
mod stopped;
mod tiling;
