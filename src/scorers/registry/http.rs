//! A scorer behind an HTTP endpoint.

use crate::scorers::external::{Endpoint, External, Start};
use crate::scorers::scorer::{Declaration, Files};

/// Measures are those that the server describes.
pub const HTTP: Declaration = Declaration {
    name: "http",
    about: "A server that rates pictures which are posted to it",
    measures: &[],
    files: Some(Files {
        form: "address such as http://localhost:8000/, see docs/scorer-protocol.md",
        weights: None,
        others: |_| Ok(Vec::new()),
    }),
    reads_vae: false,
    example: "",
    licence: "that of the server",
    citation: "none: docs/scorer-protocol.md is the protocol",
    open: |opening| {
        let start = Start::parse(&opening.path.to_string_lossy())?;
        Ok(Box::new(External::open(Box::new(Endpoint::new(&start)?), start.retries)?))
    },
};
