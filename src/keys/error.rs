//! Errors in a configuration or in arguments.

/// A wrong configuration or wrong arguments (exit code 2).
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct ConfigError(pub String);

pub type Result<T> = std::result::Result<T, ConfigError>;
