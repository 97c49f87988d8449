//! Folders of runs, and the folder of their database.

use anyhow::{Context, Result};
use std::path::{Path, PathBuf};

/// Name of the database.
pub const FILE: &str = "runs.sqlite";
/// Name of the folder that runs are in by default.
const RUNS: &str = "runs";
/// Every run has this file.
const RESOLVED: &str = "resolved.toml";
/// Depth below the root at which folders are still looked at.
const DEPTH: usize = 6;

/// Whether the folder is a run's.
pub fn is_run(dir: &Path) -> bool {
    dir.join(RESOLVED).is_file()
}

/// Folder of the database that a run belongs to: the nearest folder above it that has one or is named `runs`, else its
/// parent. A database further up, in `/tmp` for example, never takes the runs of a folder `runs`.
pub fn root_of(run: &Path) -> PathBuf {
    let run = std::path::absolute(run).unwrap_or_else(|_| run.into());
    let is_root = |dir: &&Path| dir.join(FILE).is_file() || dir.file_name().is_some_and(|name| name == RUNS);
    let found = run.ancestors().skip(1).find(is_root);
    found.or_else(|| run.parent()).unwrap_or(Path::new(".")).to_path_buf()
}

/// Every run below `root`, by path. Links are not followed.
///
/// # Errors
/// A folder that cannot be listed.
pub fn runs_below(root: &Path) -> Result<Vec<PathBuf>> {
    let (mut found, mut open) = (Vec::new(), vec![(root.to_path_buf(), 0)]);
    while let Some((dir, depth)) = open.pop() {
        if is_run(&dir) {
            found.push(dir);
            continue;
        }
        if depth == DEPTH {
            continue;
        }
        for entry in std::fs::read_dir(&dir).with_context(|| format!("cannot list {}", dir.display()))? {
            let entry = entry?;
            if entry.file_type()?.is_dir() {
                open.push((entry.path(), depth + 1));
            }
        }
    }
    found.sort();
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_run_belongs_to_the_nearest_database_or_folder_named_runs_else_to_its_parent() {
        let dir = tempfile::tempdir().unwrap();
        let base = dir.path().canonicalize().unwrap();
        let run = base.join("runs/sweeps/a/0001");
        std::fs::create_dir_all(&run).unwrap();
        assert_eq!(root_of(&run), base.join("runs"));
        std::fs::write(base.join("runs/sweeps").join(FILE), "").unwrap();
        assert_eq!(root_of(&run), base.join("runs/sweeps"));
        std::fs::write(base.join(FILE), "").unwrap();
        assert_eq!(root_of(&base.join("runs/b")), base.join("runs"), "a database above a folder `runs`");
        assert_eq!(root_of(&base.join("other/b")), base);
        assert_eq!(root_of(Path::new("/no-such-folder/a/b")), Path::new("/no-such-folder/a"));
    }

    #[test]
    fn folders_inside_a_run_are_no_runs() {
        let dir = tempfile::tempdir().unwrap();
        for name in ["a", "a/checkpoint-1", "b/c"] {
            std::fs::create_dir_all(dir.path().join(name)).unwrap();
            std::fs::write(dir.path().join(name).join(RESOLVED), "").unwrap();
        }
        assert_eq!(runs_below(dir.path()).unwrap(), ["a", "b/c"].map(|name| dir.path().join(name)));
    }
}
