//! Reasons why an image cannot be used.

/// Limit of decoded pixels: a file of a few hundred bytes can declare gigabytes.
pub(super) const MAX_PIXELS: usize = 1 << 27;

/// Reason why an image is unusable. Its item is left out and the run continues.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Unreadable {
    #[error("the file is missing")]
    Missing,
    #[error("the file cannot be read: {0}")]
    Io(String),
    #[error("not an image: {found}; JPEG, PNG, WebP, BMP, TIFF and GIF can be read")]
    NotAnImage { found: &'static str },
    #[error("the image is of a kind that is not read ({0}); save it as 8-bit RGB")]
    Unsupported(String),
    #[error("the cell holds no image")]
    Empty,
    #[error("the file is truncated")]
    Truncated,
    #[error("the image is damaged: {0}")]
    Damaged(String),
    #[error("{width} x {height} pixels are more than can be decoded ({} in all)", MAX_PIXELS)]
    TooLarge { width: u64, height: u64 },
}
