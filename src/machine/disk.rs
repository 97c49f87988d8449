//! The cache folder, and the free space of a disk.

use super::bytes::in_words;
use anyhow::{Result, bail};
use std::ffi::CString;
use std::io::{Error, ErrorKind};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

/// `$XDG_CACHE_HOME/diffpref`, or `~/.cache/diffpref`.
pub fn default_cache_dir() -> PathBuf {
    // Relative paths are ignored, as in the XDG rules.
    let xdg = std::env::var_os("XDG_CACHE_HOME").map(PathBuf::from).filter(|p| p.is_absolute());
    let home = || std::env::var_os("HOME").map_or_else(|| PathBuf::from("."), PathBuf::from);
    xdg.unwrap_or_else(|| home().join(".cache")).join("diffpref")
}

/// Bytes that this user can still write in `dir`. If `dir` does not exist yet, its nearest existing parent counts.
pub fn free_bytes(dir: &Path) -> std::io::Result<u64> {
    let existing = dir.ancestors().find(|d| d.exists()).unwrap_or(Path::new("."));
    let path = CString::new(existing.as_os_str().as_bytes()).map_err(|_| Error::from(ErrorKind::InvalidInput))?;
    // SAFETY: an all-zero statvfs is a valid value of this plain struct; the path is NUL-terminated.
    let mut stat: libc::statvfs = unsafe { std::mem::zeroed() };
    if unsafe { libc::statvfs(path.as_ptr(), &mut stat) } != 0 {
        return Err(Error::last_os_error());
    }
    Ok(stat.f_bavail.saturating_mul(stat.f_frsize))
}

/// Refuses work whose result of `needed` bytes does not fit on the disk of a folder. `what` names the result,
/// `remedy` an alternative to freeing space.
pub fn check_space(dir: &Path, needed: u64, what: &str, remedy: &str) -> Result<()> {
    match free_bytes(dir) {
        Ok(free) => fits(dir, needed, free, what, remedy),
        // A file system that does not report its free space is tried.
        Err(_) => Ok(()),
    }
}

fn fits(dir: &Path, needed: u64, free: u64, what: &str, remedy: &str) -> Result<()> {
    if needed > free {
        bail!(
            "{what} needs {} in {}, where {} are free; free space there, {remedy}",
            in_words(needed),
            dir.display(),
            in_words(free)
        );
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_full_disk_is_refused_with_both_sizes_and_a_way_out() {
        let error = fits(Path::new("/cache"), 3 << 20, 1 << 20, "the cache", "remove things").unwrap_err().to_string();
        assert!(error.starts_with("the cache needs 3.0 MiB in /cache, where 1.0 MiB are free; free space"), "{error}");
        assert!(fits(Path::new("/cache"), 1, 1, "the cache", "remove things").is_ok());
    }

    #[test]
    fn a_folder_that_is_not_there_yet_has_the_space_of_its_parent() {
        assert!(free_bytes(Path::new("/not/there/yet")).unwrap() > 0);
    }
}
