//! An image as a value: where its bytes are.

use super::containers::{parquet, tar};
use super::decode;
use super::unreadable::Unreadable;
use crate::machine::hashes::{HashMemory, of_bytes};
use image::RgbImage;
use serde::{Deserialize, Serialize};
use std::fmt::{Display, Formatter};
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Where the bytes of an image are. Two references to equal bytes share the records of caches, whatever they refer to.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(from = "Written", into = "Written")]
pub enum ImageRef {
    /// A file of its own.
    File(PathBuf),
    /// A value of a binary column of a parquet file.
    Cell {
        file: Arc<Path>,
        /// Path of the leaf column: `jpg_0`, `image.bytes`.
        column: Arc<str>,
        /// 0-based row over all row groups.
        row: u64,
    },
    /// Bytes of a tar archive that is not compressed.
    Member { file: Arc<Path>, name: Arc<str>, offset: u64, length: u64 },
}

impl ImageRef {
    /// The file that holds the bytes.
    pub fn file(&self) -> &Path {
        match self {
            Self::File(path) => path,
            Self::Cell { file, .. } | Self::Member { file, .. } => file,
        }
    }

    /// The part of a container; `None` for a file of its own.
    fn part(&self) -> Option<String> {
        match self {
            Self::File(_) => None,
            Self::Cell { column, row, .. } => Some(format!("{column}:{row}")),
            Self::Member { name, offset, length, .. } => Some(format!("{offset}+{length} {name}")),
        }
    }

    /// Name without folders, the same wherever the data is.
    pub fn name(&self) -> String {
        let file = self.file().file_name().unwrap_or_default().to_string_lossy();
        match self.part() {
            None => file.into_owned(),
            Some(part) => format!("{file}|{part}"),
        }
    }

    /// Whether the file that holds it exists.
    pub fn exists(&self) -> bool {
        self.file().is_file()
    }

    /// The encoded bytes.
    ///
    /// # Errors
    /// A missing file, an empty cell, an archive that ends earlier.
    pub fn bytes(&self) -> Result<Vec<u8>, Unreadable> {
        match self {
            Self::File(path) => decode::read(path),
            Self::Cell { file, column, row } => parquet::cell(file, column, *row),
            Self::Member { file, offset, length, .. } => tar::member(file, *offset, *length),
        }
    }

    /// The decoded image, see [`decode::decode`].
    ///
    /// # Errors
    /// Bytes that cannot be read or decoded.
    pub fn decoded(&self) -> Result<RgbImage, Unreadable> {
        self.bytes().and_then(|bytes| decode::decode(&bytes))
    }

    /// SHA-256 of the encoded bytes, as hex.
    ///
    /// # Errors
    /// Those of [`bytes`](Self::bytes).
    pub fn sha256(&self, memory: &mut HashMemory) -> Result<String, Unreadable> {
        if !self.exists() {
            return Err(Unreadable::Missing);
        }
        match self.part() {
            None => memory.of_file(self.file()).map_err(|e| Unreadable::Io(e.root_cause().to_string())),
            Some(part) => memory.of_part(self.file(), &part, || self.bytes().map(|bytes| of_bytes(&bytes))),
        }
    }
}

impl Display for ImageRef {
    fn fmt(&self, f: &mut Formatter) -> std::fmt::Result {
        match self {
            Self::File(path) => write!(f, "{}", path.display()),
            Self::Cell { file, column, row } => write!(f, "{}: {column} of row {}", file.display(), row + 1),
            Self::Member { file, name, .. } => write!(f, "{}: {name}", file.display()),
        }
    }
}

/// The form in files: a path, or an object for a part of a container.
#[derive(Serialize, Deserialize)]
#[serde(untagged)]
enum Written {
    File(PathBuf),
    Cell { file: PathBuf, column: String, row: u64 },
    Member { file: PathBuf, name: String, offset: u64, length: u64 },
}

impl From<ImageRef> for Written {
    fn from(image: ImageRef) -> Self {
        match image {
            ImageRef::File(path) => Self::File(path),
            ImageRef::Cell { file, column, row } => {
                Self::Cell { file: file.to_path_buf(), column: column.to_string(), row }
            }
            ImageRef::Member { file, name, offset, length } => {
                Self::Member { file: file.to_path_buf(), name: name.to_string(), offset, length }
            }
        }
    }
}

impl From<Written> for ImageRef {
    fn from(written: Written) -> Self {
        match written {
            Written::File(path) => Self::File(path),
            Written::Cell { file, column, row } => Self::Cell { file: file.into(), column: column.into(), row },
            Written::Member { file, name, offset, length } => {
                Self::Member { file: file.into(), name: name.into(), offset, length }
            }
        }
    }
}

impl From<PathBuf> for ImageRef {
    fn from(path: PathBuf) -> Self {
        Self::File(path)
    }
}

impl From<&str> for ImageRef {
    fn from(path: &str) -> Self {
        Self::File(path.into())
    }
}
