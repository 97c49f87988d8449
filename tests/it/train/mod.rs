//! `diffpref train`: the real binary on a tiny world.

mod combinations;
mod config;
mod families;
mod files;
mod formats;
mod input;
mod ledger;
mod methods;
mod numbers;
mod old_runs;
mod optim;
mod output;
mod protected;
mod resident;
mod resume;
mod samplers;
mod self_npo;
mod stop;
