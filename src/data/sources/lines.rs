//! Lines of text files, one in memory at a time.

use anyhow::{Context, Result};
use std::fs::File;
use std::io::{BufRead, BufReader};
use std::path::Path;

/// Passes the lines of a file with their numbers from 1, without a byte order mark.
pub fn each_line(path: &Path, take: &mut dyn FnMut(usize, &[u8]) -> Result<()>) -> Result<()> {
    let cannot = || format!("cannot read {}", path.display());
    let mut lines = BufReader::new(File::open(path).with_context(cannot)?);
    let (mut line, mut number) = (Vec::new(), 0);
    loop {
        line.clear();
        if lines.read_until(b'\n', &mut line).with_context(cannot)? == 0 {
            return Ok(());
        }
        number += 1;
        let mut bytes = line.strip_suffix(b"\n").unwrap_or(&line);
        if number == 1 {
            // Some editors begin UTF-8 files with a mark, which JSON does not allow.
            bytes = bytes.strip_prefix(b"\xef\xbb\xbf").unwrap_or(bytes);
        }
        take(number, bytes)?;
    }
}
