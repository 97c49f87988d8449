//! Files that appear whole or not at all.

use anyhow::{Context, Result};
use std::ffi::CString;
use std::io::Write;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

/// Writes `bytes` to a temporary file beside `path`, syncs it and renames it into place (mode 0644).
pub fn write_atomically(path: &Path, bytes: &[u8]) -> Result<()> {
    let dir = match path.parent() {
        Some(p) if !p.as_os_str().is_empty() => p,
        _ => Path::new("."),
    };
    let write = || -> std::io::Result<()> {
        let mut file = tempfile::Builder::new().permissions(std::fs::Permissions::from_mode(0o644)).tempfile_in(dir)?;
        file.write_all(bytes)?;
        file.as_file().sync_all()?;
        file.persist(path).map_err(|e| e.error)?;
        Ok(())
    };
    write().with_context(|| format!("cannot write {}", path.display()))
}

/// Syncs a folder, so that the names in it survive a crash.
pub fn sync_dir(dir: &Path) -> Result<()> {
    std::fs::File::open(dir).and_then(|d| d.sync_all()).with_context(|| format!("cannot sync {}", dir.display()))
}

/// `PATH[:NUMBER]` as its parts. Text after the last colon is the number if it is one, else part of the path. None
/// without a path, or with a number that is not finite.
pub fn path_and_number(text: &str) -> Option<(PathBuf, Option<f64>)> {
    let numbered = text.rsplit_once(':').and_then(|(path, number)| Some((path, number.parse::<f64>().ok()?)));
    let (path, number) = numbered.map_or((text, None), |(path, number)| (path, Some(number)));
    (!path.is_empty() && number.is_none_or(f64::is_finite)).then(|| (PathBuf::from(path), number))
}

/// Name of a file relative to its folder; the name itself for a single file.
pub fn name_below(root: &Path, file: &Path) -> String {
    let inside = file.strip_prefix(root).ok().filter(|rest| !rest.as_os_str().is_empty());
    inside.or(file.file_name().map(Path::new)).unwrap_or(file).display().to_string()
}

/// `path` as seen from the folder `from`, with `..` where needed. Both must exist.
pub fn relative_to(from: &Path, path: &Path) -> Result<PathBuf> {
    let full = |path: &Path| {
        let path = if path.as_os_str().is_empty() { Path::new(".") } else { path };
        path.canonicalize().with_context(|| format!("cannot find {}", path.display()))
    };
    let (from, path) = (full(from)?, full(path)?);
    let shared = from.components().zip(path.components()).take_while(|(a, b)| a == b).count();
    let up = from.components().skip(shared).map(|_| Path::new(".."));
    Ok(up.collect::<PathBuf>().join(path.components().skip(shared).collect::<PathBuf>()))
}

/// Name prefix of unfinished folders and files before their rename. A killed process leaves them behind.
const UNFINISHED: [&str; 2] = [".unfinished-", ".tmp"];

/// A temporary folder next to its final path, to be filled and [published](publish_dir). Removed when dropped before
/// that.
pub fn unfinished_dir(parent: &Path) -> Result<tempfile::TempDir> {
    let dir = tempfile::Builder::new().prefix(UNFINISHED[0]).tempdir_in(parent);
    dir.with_context(|| format!("cannot write into {}", parent.display()))
}

/// Removes unfinished files of a killed process in `parent`. Only for a folder that no other process writes into.
pub fn remove_unfinished(parent: &Path) -> Result<()> {
    for entry in std::fs::read_dir(parent).with_context(|| format!("cannot list {}", parent.display()))? {
        let entry = entry?;
        let name = entry.file_name();
        if !UNFINISHED.iter().any(|prefix| name.to_string_lossy().starts_with(prefix)) {
            continue;
        }
        let path = entry.path();
        let removed = if path.is_dir() { std::fs::remove_dir_all(&path) } else { std::fs::remove_file(&path) };
        removed.with_context(|| format!("cannot remove {}", path.display()))?;
    }
    Ok(())
}

/// Syncs a filled folder and renames it to `target` (mode 0755). An existing folder is exchanged for the new one in a
/// single step: one of both is whole at every moment.
pub fn publish_dir(parts: tempfile::TempDir, target: &Path) -> Result<()> {
    std::fs::set_permissions(parts.path(), std::fs::Permissions::from_mode(0o755))?;
    sync_tree(parts.path())?;
    if target.exists() {
        exchange(parts.path(), target).with_context(|| format!("cannot replace {}", target.display()))?;
        sync_dir(target.parent().unwrap_or(Path::new(".")))?;
        let old = parts.path().to_path_buf();
        return parts.close().with_context(|| format!("cannot remove {}", old.display()));
    }
    std::fs::rename(parts.path(), target)
        .with_context(|| format!("cannot rename {} to {}", parts.path().display(), target.display()))?;
    // Renamed: nothing remains to be removed.
    let _ = parts.keep();
    sync_dir(target.parent().unwrap_or(Path::new(".")))
}

/// Swaps two folders. On a file system without a single-step swap, the old folder is moved away first.
fn exchange(new: &Path, old: &Path) -> std::io::Result<()> {
    let text = |p: &Path| CString::new(p.as_os_str().as_bytes()).map_err(std::io::Error::other);
    let (from, to) = (text(new)?, text(old)?);
    // SAFETY: both are NUL-terminated paths that outlive the call.
    let code =
        unsafe { libc::renameat2(libc::AT_FDCWD, from.as_ptr(), libc::AT_FDCWD, to.as_ptr(), libc::RENAME_EXCHANGE) };
    if code == 0 {
        return Ok(());
    }
    let aside = new.with_extension("old");
    std::fs::rename(old, &aside)?;
    std::fs::rename(new, old)?;
    std::fs::rename(&aside, new)
}

/// Syncs every file and folder below `dir`.
fn sync_tree(dir: &Path) -> Result<()> {
    for entry in std::fs::read_dir(dir).with_context(|| format!("cannot list {}", dir.display()))? {
        let path = entry?.path();
        match path.is_dir() {
            true => sync_tree(&path)?,
            false => std::fs::File::open(&path)
                .and_then(|f| f.sync_all())
                .with_context(|| format!("cannot sync {}", path.display()))?,
        }
    }
    sync_dir(dir)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn filled(parent: &Path, text: &str) -> tempfile::TempDir {
        let parts = unfinished_dir(parent).unwrap();
        std::fs::create_dir(parts.path().join("unet")).unwrap();
        std::fs::write(parts.path().join("unet/a"), text).unwrap();
        parts
    }

    #[test]
    fn a_published_folder_replaces_the_old_one_and_leaves_nothing_beside_it() {
        let parent = tempfile::tempdir().unwrap();
        let target = parent.path().join("best");
        for text in ["first", "second"] {
            publish_dir(filled(parent.path(), text), &target).unwrap();
            assert_eq!(std::fs::read_to_string(target.join("unet/a")).unwrap(), text);
        }
        assert_eq!(std::fs::read_dir(parent.path()).unwrap().count(), 1);
        assert_eq!(std::fs::metadata(&target).unwrap().permissions().mode() & 0o777, 0o755);
    }

    #[test]
    fn what_a_killed_process_left_unfinished_is_removed_and_nothing_else() {
        let parent = tempfile::tempdir().unwrap();
        std::fs::create_dir(parent.path().join("checkpoint-000001")).unwrap();
        std::fs::write(parent.path().join(".tmpabc"), "half").unwrap();
        let _left = filled(parent.path(), "half").keep();
        remove_unfinished(parent.path()).unwrap();
        let names: Vec<_> = std::fs::read_dir(parent.path()).unwrap().map(|e| e.unwrap().file_name()).collect();
        assert_eq!(names, ["checkpoint-000001"]);
    }
    #[test]
    fn a_number_behind_the_last_colon_belongs_to_a_path_if_it_is_one() {
        let both = |path: &str, number| Some((PathBuf::from(path), number));
        assert_eq!(path_and_number("a:0.5"), both("a", Some(0.5)));
        assert_eq!(path_and_number("c:/a:-1"), both("c:/a", Some(-1.0)));
        assert_eq!(path_and_number("c:/a"), both("c:/a", None));
        assert_eq!(path_and_number("a:b"), both("a:b", None));
        assert_eq!([path_and_number(""), path_and_number(":1"), path_and_number("a:inf")], [None, None, None]);
    }

    #[test]
    fn a_path_is_relative_to_a_folder_beside_or_above_it() {
        let dir = tempfile::tempdir().unwrap();
        let (a, b) = (dir.path().join("a"), dir.path().join("b/c"));
        std::fs::create_dir_all(&a).unwrap();
        std::fs::create_dir_all(&b).unwrap();
        let file = b.join("x.png");
        std::fs::write(&file, "").unwrap();
        assert_eq!(relative_to(&a, &file).unwrap(), Path::new("../b/c/x.png"));
        assert_eq!(relative_to(dir.path(), &file).unwrap(), Path::new("b/c/x.png"));
        assert!(relative_to(&a, &dir.path().join("none")).unwrap_err().to_string().starts_with("cannot find "));
    }
}
