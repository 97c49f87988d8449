//! Verdict, page and TensorBoard events of a run.

mod page;
mod tensorboard;
mod verdict;
