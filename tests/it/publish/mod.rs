//! `diffpref export` and `diffpref merge`.

mod export;
mod merge;
