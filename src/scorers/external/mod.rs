//! Scorers in other programs, over pipes or HTTP: one JSON object per request and per answer (docs/scorer-protocol.md).

mod client;
mod endpoint;
mod messages;
mod process;
mod start;
mod transport;

pub use client::External;
pub use endpoint::Endpoint;
pub use process::Process;
pub use start::Start;
