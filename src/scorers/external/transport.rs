//! The way of a request to another program and of its answer back.

/// Failure of one exchange.
#[derive(Debug)]
pub enum Failure {
    /// Another try may succeed: a program that ended, an endpoint that is down.
    Passing(String),
    /// Another try would fail the same way.
    Lasting(String),
}

/// Carries requests and answers.
pub trait Transport {
    /// The other side in messages and in the identity of its numbers: a command line or an address.
    fn place(&self) -> String;

    /// Sends one JSON object and returns the text of the answer.
    fn exchange(&mut self, request: &str) -> Result<String, Failure>;
}
