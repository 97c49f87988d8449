//! A scorer in another program, over pipes.

use crate::scorers::external::{External, Process, Start};
use crate::scorers::scorer::{Declaration, Files};

/// Measures are those that the program describes.
pub const COMMAND: Declaration = Declaration {
    name: "command",
    about: "Another program that rates pictures over its standard input and output",
    measures: &[],
    files: Some(Files {
        form: "command line such as \"python3 judge.py\", see docs/scorer-protocol.md",
        weights: None,
        others: |path| Ok(Start::parse(&path.to_string_lossy())?.files()),
    }),
    reads_vae: false,
    example: "docs/examples/brightness.py",
    licence: "that of the program",
    citation: "none: docs/scorer-protocol.md is the protocol",
    open: |opening| {
        let start = Start::parse(&opening.path.to_string_lossy())?;
        let retries = start.retries;
        Ok(Box::new(External::open(Box::new(Process::new(start)), retries)?))
    },
};
