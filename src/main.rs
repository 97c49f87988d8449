//! The program: parse, call, print. Everything else is in the library.

mod cli;

use std::process::ExitCode;

fn main() -> ExitCode {
    // Before anything else asks libtorch: a process that queried CUDA once without the library never sees the card.
    let cuda = diffpref_native::load_cuda();
    cli::run(cuda)
}
