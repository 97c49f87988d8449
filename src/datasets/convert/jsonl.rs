//! Our own file with a folder of images. Equal images are written once: they are named by their bytes.

use super::writer::{Refused, Writer, bytes, ending};
use super::written;
use crate::data::items::ItemKind;
use crate::data::row::Row;
use crate::machine::hashes::of_bytes;
use anyhow::{Context, Result};
use std::fs::File;
use std::io::{BufWriter, Write};
use std::path::{Path, PathBuf};

pub struct Jsonl {
    dir: PathBuf,
    rows: BufWriter<File>,
}

impl Jsonl {
    pub fn create(dir: &Path, kind: ItemKind) -> Result<Self> {
        let path = dir.join(format!("{}.jsonl", kind.name()));
        let file = File::create(&path).with_context(|| format!("cannot write {}", path.display()))?;
        Ok(Self { dir: dir.to_path_buf(), rows: BufWriter::new(file) })
    }

    fn image(&self, bytes: &[u8]) -> Result<String> {
        let hash = of_bytes(bytes);
        let name = format!("images/{}/{}.{}", &hash[..2], &hash[..32], ending(bytes));
        let path = self.dir.join(&name);
        if !path.exists() {
            let folder = path.parent().unwrap_or(&self.dir);
            let write = std::fs::create_dir_all(folder).and_then(|()| std::fs::write(&path, bytes));
            write.with_context(|| format!("cannot write {}", path.display()))?;
        }
        Ok(name)
    }
}

impl Writer for Jsonl {
    fn add(&mut self, id: &str, row: &Row) -> Result<(), Refused> {
        let bytes = bytes(row)?;
        let names = bytes.iter().map(|bytes| self.image(bytes)).collect::<Result<Vec<_>>>()?;
        let mut fields = written::fields(id, row);
        written::add_images(&mut fields, row.kind(), names);
        let line = serde_json::to_string(&fields).context("a row as JSON")?;
        writeln!(self.rows, "{line}").context("cannot write the rows")?;
        Ok(())
    }

    fn finish(mut self: Box<Self>) -> Result<()> {
        self.rows.flush().context("cannot write the rows")
    }
}
