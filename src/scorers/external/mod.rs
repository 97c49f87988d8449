//! Scorers in other programs, over pipes or HTTP: one JSON object per request and per answer (docs/scorer-protocol.md).

mod endpoint;
mod external;
mod messages;
mod process;
mod start;
mod transport;

pub use endpoint::Endpoint;
pub use external::External;
pub use process::Process;
pub use start::Start;
