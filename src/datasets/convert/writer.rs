//! The interface of written formats.

use crate::data::items::ImageRef;
use crate::data::row::Row;
use anyhow::Result;

/// Writes rows of one target into a folder.
pub trait Writer {
    /// # Errors
    /// [`Refused::Image`] for an image that cannot be read, before anything of the row is written.
    fn add(&mut self, id: &str, row: &Row) -> Result<(), Refused>;

    /// # Errors
    /// A full disk.
    fn finish(self: Box<Self>) -> Result<()>;
}

/// Why a row is not written.
pub enum Refused {
    Image(String),
    Other(anyhow::Error),
}

impl From<anyhow::Error> for Refused {
    fn from(error: anyhow::Error) -> Self {
        Self::Other(error)
    }
}

/// The encoded bytes of all images of a row.
pub fn bytes(row: &Row) -> Result<Vec<Vec<u8>>, Refused> {
    let read = |image: &ImageRef| image.bytes().map_err(|reason| Refused::Image(format!("{image}: {reason}")));
    row.images.iter().map(read).collect()
}

/// The ending of a file with these bytes.
pub fn ending(bytes: &[u8]) -> &'static str {
    image::guess_format(bytes).ok().and_then(|format| format.extensions_str().first().copied()).unwrap_or("bin")
}
