//! All readers, and the choice of one for a data set.

use super::files::Files;
use super::folders::Folders;
use super::format::Format;
use super::hpdv2::Hpdv2;
use super::hpdv3::Hpdv3;
use super::imagefolder::ImageFolder;
use super::imagereward::ImageReward;
use super::jsonl::Jsonl;
use super::parquet_pairs::ParquetPairs;
use super::pickapic::PickAPic;
use super::source::{Source, Take};
use super::webdataset::WebDataset;
use crate::data::item::ItemKind;
use anyhow::{Result, bail};
use std::path::{Path, PathBuf};

/// All readers. Files that several recognise are refused until `data.format` names one.
const SOURCES: &[&dyn Source] =
    &[&Jsonl, &PickAPic, &ParquetPairs, &Hpdv2, &Hpdv3, &ImageReward, &WebDataset, &Folders, &ImageFolder];

/// A data set with its reader.
pub struct Opened {
    pub files: Files,
    source: &'static dyn Source,
}

/// Finds files and their reader. `format`: `None` to recognise it.
///
/// # Errors
/// No files, files of no known format, or of several.
pub fn open(path: &Path, format: Option<Format>) -> Result<Opened> {
    let files = Files::find(path)?;
    if let Some(format) = format {
        let wanted = if format.kind().is_some() { Format::Pairs } else { format };
        if let Some(source) = SOURCES.iter().find(|source| source.format() == wanted) {
            // Our own files tell by themselves what they lack.
            if wanted != Format::Pairs && !source.recognises(&files)? {
                bail!(
                    "data.format = \"{format}\", and {} does not hold it; expected {}. {}",
                    path.display(),
                    source.expects(),
                    files.seen()
                );
            }
            return Ok(Opened { files, source: *source });
        }
    }
    // Our own file names its images, whatever other files are beside it.
    if Jsonl.recognises(&files)? {
        return Ok(Opened { files, source: &Jsonl });
    }
    let mut found: Vec<&'static dyn Source> = Vec::new();
    for source in SOURCES {
        if source.recognises(&files)? {
            found.push(*source);
        }
    }
    match found.as_slice() {
        [source] => Ok(Opened { files, source: *source }),
        [] => {
            let known: Vec<String> =
                SOURCES.iter().map(|source| format!("\n  {}: {}", source.format(), source.expects())).collect();
            bail!(
                "data.path: {} holds no data of a known format. Known are:{}\n{}",
                path.display(),
                known.concat(),
                files.seen()
            )
        }
        many => {
            let names: Vec<&str> = many.iter().map(|source| source.format().name()).collect();
            bail!(
                "data.path: {} could be {}; name one in data.format, or name the file itself",
                path.display(),
                names.join(" or ")
            )
        }
    }
}

impl Opened {
    /// The format; for our own files that of pairs, whatever their rows.
    pub fn format(&self) -> Format {
        self.source.format()
    }

    /// See [`Source::read`].
    ///
    /// # Errors
    /// Unreadable files; those of `take`.
    pub fn read(&self, wanted: ItemKind, take: &mut Take) -> Result<()> {
        self.source.read(&self.files, wanted, take)
    }

    /// The file that names the data set.
    ///
    /// # Errors
    /// A choice between several.
    pub fn index(&self) -> Result<PathBuf> {
        self.source.index(&self.files)
    }

    /// Whether the hash of the index is that of the data set.
    pub fn is_one_file(&self) -> bool {
        self.source.is_one_file()
    }
}
