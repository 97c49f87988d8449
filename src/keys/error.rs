//! What is wrong with a configuration or with arguments.

/// The configuration or the arguments are wrong (exit code 2).
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct ConfigError(pub String);

pub type Result<T> = std::result::Result<T, ConfigError>;
