//! Distinct pictures of the rows: hashed first, each decoded at most once, on a thread of its own.

use super::input::Row;
use crate::data::decode;
use crate::data::unreadable::Unreadable;
use crate::machine::hashes::HashMemory;
use crate::progress::Stop;
use anyhow::Result;
use image::RgbImage;
use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::mpsc::sync_channel;

/// A picture with the rows that name it.
pub struct Picture {
    pub path: PathBuf,
    /// SHA-256 of the file.
    pub hash: String,
    pub rows: Vec<usize>,
}

/// Distinct pictures.
pub struct Found {
    pub pictures: Vec<Picture>,
    /// Files that cannot be read, with the reason.
    pub unreadable: Vec<(PathBuf, String)>,
}

/// Pictures of the rows in order of first appearance, and files that cannot be read.
///
/// # Errors
/// [`crate::progress::Stopped`] after a signal.
pub fn of_rows(rows: &[Row], hashes: &mut HashMemory, stop: &Stop) -> Result<Found> {
    let mut places: HashMap<&Path, usize> = HashMap::new();
    let mut distinct: Vec<(&Path, Vec<usize>)> = Vec::new();
    for (index, row) in rows.iter().enumerate() {
        let place = *places.entry(&row.picture).or_insert_with(|| {
            distinct.push((&row.picture, Vec::new()));
            distinct.len() - 1
        });
        distinct[place].1.push(index);
    }
    let (mut pictures, mut unreadable) = (Vec::new(), Vec::new());
    for (path, rows) in distinct {
        stop.check()?;
        match (path.exists(), hashes.of_file(path)) {
            (_, Ok(hash)) => pictures.push(Picture { path: path.to_path_buf(), hash, rows }),
            (false, Err(_)) => unreadable.push((path.to_path_buf(), Unreadable::Missing.to_string())),
            (true, Err(e)) => unreadable.push((path.to_path_buf(), format!("{e:#}"))),
        }
    }
    Ok(Found { pictures, unreadable })
}

/// Decodes pictures ahead of their use, and passes them in batches.
///
/// # Errors
/// Those of `take`.
pub fn decoded(
    paths: &[&Path],
    batch: usize,
    mut take: impl FnMut(Vec<Result<RgbImage, Unreadable>>) -> Result<()>,
) -> Result<()> {
    std::thread::scope(|scope| {
        let (send, receive) = sync_channel(1);
        scope.spawn(move || {
            for paths in paths.chunks(batch) {
                let one = |path: &&Path| decode::read(path).and_then(|bytes| decode::decode(&bytes));
                // The receiver is gone after an error.
                if send.send(paths.iter().map(one).collect::<Vec<_>>()).is_err() {
                    return;
                }
            }
        });
        receive.iter().try_for_each(&mut take)
    })
}
