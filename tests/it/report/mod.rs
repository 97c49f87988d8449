//! Verdict, page and TensorBoard events of a run.

mod browser;
mod page;
mod tensorboard;
mod verdict;
