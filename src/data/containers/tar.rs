//! Members of tar archives.

use crate::data::unreadable::Unreadable;
use anyhow::{Context, Result, bail};
use std::fs::File;
use std::io::Read;
use std::os::unix::fs::FileExt;
use std::path::Path;

/// A regular file inside an archive.
pub struct Member {
    /// Path in the archive. It is a name only: nothing is ever written there.
    pub name: String,
    pub offset: u64,
    pub length: u64,
}

/// Bytes at a place of an archive.
///
/// # Errors
/// A missing archive, or one that ends earlier.
pub fn member(file: &Path, offset: u64, length: u64) -> Result<Vec<u8>, Unreadable> {
    let io = |e: std::io::Error| match e.kind() {
        std::io::ErrorKind::NotFound => Unreadable::Missing,
        std::io::ErrorKind::UnexpectedEof => Unreadable::Truncated,
        _ => Unreadable::Io(e.to_string()),
    };
    let open = File::open(file).map_err(io)?;
    // Checked before memory is taken: a header can claim any length.
    if open.metadata().map_err(io)?.len() < offset.saturating_add(length) {
        return Err(Unreadable::Truncated);
    }
    let mut bytes = vec![0; usize::try_from(length).map_err(|_| Unreadable::Truncated)?];
    open.read_exact_at(&mut bytes, offset).map_err(io)?;
    Ok(bytes)
}

/// Passes every regular file of an archive, in order. Folders and links are skipped.
///
/// # Errors
/// A compressed or damaged archive; those of `take`.
pub fn members(file: &Path, take: &mut dyn FnMut(Member) -> Result<()>) -> Result<()> {
    let open = File::open(file).with_context(|| format!("cannot read {}", file.display()))?;
    let length = open.metadata().with_context(|| format!("cannot read {}", file.display()))?.len();
    refuse_compressed(file, &open)?;
    let damaged = || format!("{} is not a whole tar archive; write it again", file.display());
    let mut archive = ::tar::Archive::new(open);
    for entry in archive.entries_with_seek().with_context(damaged)? {
        let entry = entry.with_context(damaged)?;
        if !entry.header().entry_type().is_file() {
            continue;
        }
        let name = String::from_utf8_lossy(&entry.path_bytes()).into_owned();
        let (offset, size) = (entry.raw_file_position(), entry.size());
        if offset.saturating_add(size) > length {
            bail!("{} ends inside {name}; copy or download it again", file.display());
        }
        take(Member { name, offset, length: size })?;
    }
    Ok(())
}

fn refuse_compressed(file: &Path, mut open: &File) -> Result<()> {
    let mut start = [0; 4];
    let read = open.read(&mut start).with_context(|| format!("cannot read {}", file.display()))?;
    std::io::Seek::rewind(&mut open)?;
    let (kind, tool) = match &start[..read] {
        [0x1f, 0x8b, ..] => ("gzip", "gunzip"),
        [0x28, 0xb5, 0x2f, 0xfd] => ("zstd", "unzstd"),
        [b'P', b'K', 3, 4] => ("a zip archive, not tar", "unzip"),
        _ => return Ok(()),
    };
    bail!(
        "{} is compressed ({kind}): its images cannot be read one by one. Unpack it first: {tool} {}",
        file.display(),
        file.display()
    )
}
