//! The interface of readers.

use super::files::Files;
use super::format::Format;
use crate::data::item::ItemKind;
use crate::data::row::{Entry, Place};
use anyhow::Result;
use std::path::PathBuf;

/// Receives every row of a data set in order, or the reason why one is refused. An error ends the reading.
pub type Take<'a> = dyn FnMut(Place, Result<Entry, String>) -> Result<()> + 'a;

/// A format of preference data.
pub(super) trait Source: Sync {
    /// The value of `data.format`. Our own files have one for each kind of rows: this is the first.
    fn format(&self) -> Format;

    /// The files that tell the format, for messages.
    fn expects(&self) -> &'static str;

    /// Whether the files are of this format. Names, headers and first rows are read.
    ///
    /// # Errors
    /// Unreadable files.
    fn recognises(&self, files: &Files) -> Result<bool>;

    /// Passes all rows in order. `wanted`: the kind of items of the method; a ranking can be read as one list or as
    /// several pairs.
    ///
    /// # Errors
    /// Unreadable files; those of `take`.
    fn read(&self, files: &Files, wanted: ItemKind, take: &mut Take) -> Result<()>;

    /// The file that names the data set in messages and records.
    ///
    /// # Errors
    /// A choice between several.
    fn index(&self, files: &Files) -> Result<PathBuf> {
        Ok(files.path.clone())
    }

    /// Whether the content of [`index`](Self::index) is all that the rows come from, so that its hash is the data
    /// set's.
    fn is_one_file(&self) -> bool {
        false
    }
}
