//! All tests across modules in one binary.

mod clip;
mod export;
mod inversion;
mod lora;
mod lora_files;
mod networks;
mod recompute;
mod sampler_limits;
mod samplers;
mod sampling;
mod schedulers;
mod support;
mod tokenizer;
mod weights;
