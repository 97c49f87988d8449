//! The program: parse, call, print. Everything else is in the library.

mod cli;

use std::process::ExitCode;

fn main() -> ExitCode {
    // Called before any other use of libtorch: a process that queried CUDA once without the library never finds the
    // card.
    let cuda = diffpref_native::load_cuda();
    cli::run(cuda)
}
