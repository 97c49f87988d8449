//! The files of a data set: one, those of a folder, or those that a pattern matches.

use crate::data::image_ref::ImageRef;
use anyhow::{Context, Result, bail};
use std::collections::BTreeSet;
use std::path::{Component, Path, PathBuf};

/// Number of files that a message names.
const NAMED: usize = 6;

/// Files in the order of their names.
#[derive(Debug, Clone)]
pub struct Files {
    /// As given.
    pub path: PathBuf,
    /// The folder that the paths of rows are relative to.
    pub root: PathBuf,
    /// The file, or those of the folder without those of its subfolders.
    pub files: Vec<PathBuf>,
    /// Folders in the folder.
    pub folders: Vec<PathBuf>,
    /// Whether the path is a folder.
    pub is_folder: bool,
}

impl Files {
    /// `path`: a file; a folder; or a pattern: a file name with `*`.
    ///
    /// # Errors
    /// Nothing there.
    pub fn find(path: &Path) -> Result<Self> {
        let root = path.parent().unwrap_or(Path::new("")).to_path_buf();
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        if !path.exists() && name.contains('*') {
            let (files, _) = listed(&root)?;
            let matches = |file: &PathBuf| file.file_name().is_some_and(|file| fits(&name, &file.to_string_lossy()));
            let files: Vec<PathBuf> = files.into_iter().filter(matches).collect();
            if files.is_empty() {
                bail!("data.path: no file fits {}", path.display());
            }
            return Ok(Self { path: path.into(), root, files, folders: Vec::new(), is_folder: false });
        }
        let meta = std::fs::metadata(path).with_context(|| {
            format!("data.path: cannot find {}; expected a data file or a folder with data", path.display())
        })?;
        if !meta.is_dir() {
            return Ok(Self {
                path: path.into(),
                root,
                files: vec![path.into()],
                folders: Vec::new(),
                is_folder: false,
            });
        }
        let (mut files, folders) = listed(path)?;
        // Downloads of a hub have parquet files and shards in data/.
        let data = path.join("data");
        if folders.contains(&data) && !files.iter().any(|file| ending(file) != "md" && !is_hidden(file)) {
            files = listed(&data)?.0;
        }
        Ok(Self { path: path.into(), root: path.into(), files, folders, is_folder: true })
    }

    /// Files with one of these endings, without capitals.
    pub fn with(&self, endings: &[&str]) -> Vec<&PathBuf> {
        self.files.iter().filter(|file| endings.contains(&ending(file).as_str())).collect()
    }

    /// The only file with one of these endings, in a folder that may hold others.
    ///
    /// # Errors
    /// None, or several: the message names them.
    pub fn only(&self, endings: &[&str]) -> Result<&PathBuf> {
        match self.with(endings).as_slice() {
            [one] => Ok(*one),
            [] => bail!("data.path: {} holds no .{} file", self.path.display(), endings.join(" or .")),
            many => bail!(
                "data.path: the folder {} holds {} data files ({}), expected exactly one; name the file itself",
                self.path.display(),
                many.len(),
                names(many)
            ),
        }
    }

    /// Shards of one split: files with one of these endings in the order of their names.
    ///
    /// # Errors
    /// Shards of several splits (`train-00000-of-00009`): mixing them would train on test data.
    pub fn shards(&self, endings: &[&str]) -> Result<Vec<&PathBuf>> {
        let shards = self.with(endings);
        let splits: BTreeSet<String> = shards.iter().map(|file| split(file)).collect();
        if splits.len() > 1 {
            let folder = shards.first().and_then(|file| file.parent()).unwrap_or(&self.path);
            let patterns: Vec<String> =
                splits.iter().map(|split| format!("{}", folder.join(format!("{split}*")).display())).collect();
            bail!(
                "data.path: {} holds the splits {}; name one, as data.path = \"{}\"",
                self.path.display(),
                splits.into_iter().collect::<Vec<_>>().join(", "),
                patterns.join("\" or \"")
            );
        }
        Ok(shards)
    }

    /// The image at a path below the root.
    ///
    /// # Errors
    /// A path that leaves the folder.
    pub fn image(&self, path: &str) -> Result<ImageRef, String> {
        inside(&self.root, path).map(ImageRef::File)
    }

    /// The files found, for a message.
    pub(super) fn seen(&self) -> String {
        let files: Vec<&PathBuf> = self.files.iter().chain(&self.folders).collect();
        match files.as_slice() {
            [] => format!("The folder {} is empty", self.path.display()),
            some => format!("Found: {}", names(some)),
        }
    }
}

/// A path of a foreign file below a folder.
///
/// # Errors
/// A path that leaves the folder: whoever wrote the file could name any file of the machine.
pub fn inside(root: &Path, path: &str) -> Result<PathBuf, String> {
    let leaves = |part: Component| !matches!(part, Component::Normal(_) | Component::CurDir);
    match Path::new(path).components().any(leaves) {
        true => Err(format!("the image {path:?} is outside the folder of the data; expected a path below it")),
        false => Ok(root.join(path)),
    }
}

/// The ending of a name, without capitals.
pub fn ending(file: &Path) -> String {
    file.extension().and_then(|ending| ending.to_str()).unwrap_or_default().to_ascii_lowercase()
}

fn is_hidden(file: &Path) -> bool {
    file.file_name().is_some_and(|name| name.to_string_lossy().starts_with('.'))
}

/// Files and folders, each sorted.
pub fn listed(folder: &Path) -> Result<(Vec<PathBuf>, Vec<PathBuf>)> {
    let (mut files, mut folders) = (Vec::new(), Vec::new());
    let cannot = || format!("cannot list {}", folder.display());
    let at = if folder.as_os_str().is_empty() { Path::new(".") } else { folder };
    for entry in std::fs::read_dir(at).with_context(cannot)? {
        let path = folder.join(entry.with_context(cannot)?.file_name());
        match path.is_dir() {
            true => folders.push(path),
            false => files.push(path),
        }
    }
    files.sort();
    folders.sort();
    Ok((files, folders))
}

fn names(files: &[&PathBuf]) -> String {
    let named = files.iter().take(NAMED).filter_map(|file| file.file_name()).map(|name| name.to_string_lossy());
    let more = if files.len() > NAMED { " .." } else { "" };
    format!("{}{more}", named.collect::<Vec<_>>().join(", "))
}

/// The name before the number of a shard; empty without a number.
fn split(file: &Path) -> String {
    let name = file.file_stem().unwrap_or_default().to_string_lossy().into_owned();
    let Some((before, _)) = name.split_once("-of-") else { return String::new() };
    before.trim_end_matches(|c: char| c.is_ascii_digit()).trim_end_matches('-').to_string()
}

/// Whether a name fits a pattern, in which `*` is any text.
fn fits(pattern: &str, name: &str) -> bool {
    let mut parts = pattern.split('*');
    let Some(mut rest) = name.strip_prefix(parts.next().unwrap_or_default()) else { return false };
    let Some(last) = parts.next_back() else { return rest.is_empty() };
    for part in parts {
        match rest.find(part) {
            Some(at) => rest = &rest[at + part.len()..],
            None => return false,
        }
    }
    rest.ends_with(last)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns_fit_names() {
        for (pattern, name, expected) in [
            ("train-*.parquet", "train-00000-of-2.parquet", true),
            ("train-*", "validation-0", false),
            ("*.tar", "a.tar", true),
            ("*a*b", "xaab", true),
            ("a*a", "a", false),
            ("a", "a", true),
        ] {
            assert_eq!(fits(pattern, name), expected, "{pattern} {name}");
        }
    }

    #[test]
    fn splits_are_the_names_before_the_numbers() {
        for (name, expected) in [
            ("train-00000-of-00645-b66ac786bf6fb553.parquet", "train"),
            ("validation_unique-00000-of-00001.parquet", "validation_unique"),
            ("pairs.parquet", ""),
        ] {
            assert_eq!(split(Path::new(name)), expected);
        }
    }

    #[test]
    fn paths_that_leave_the_folder_are_refused() {
        let root = Path::new("data");
        assert_eq!(inside(root, "a/./b.png"), Ok(PathBuf::from("data/a/./b.png")));
        for path in ["../b.png", "/etc/passwd", "a/../../b.png"] {
            assert!(inside(root, path).unwrap_err().contains("outside the folder of the data"), "{path}");
        }
    }
}
