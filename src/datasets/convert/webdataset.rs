//! WebDataset shards: KEY.0.jpg, KEY.1.jpg and KEY.json per row. Image 0 of a pair is the winner.

use super::writer::{Refused, Writer, bytes, ending};
use super::written;
use crate::data::items::ItemKind;
use crate::data::row::Row;
use anyhow::{Context, Result, anyhow};
use std::fs::File;
use std::io::BufWriter;
use std::path::{Path, PathBuf};

/// Bytes of images after which a shard ends.
const SHARD_BYTES: usize = 256 << 20;

pub struct Shards {
    dir: PathBuf,
    shard: Option<tar::Builder<BufWriter<File>>>,
    number: usize,
    bytes: usize,
}

impl Shards {
    pub fn create(dir: &Path) -> Self {
        Self { dir: dir.to_path_buf(), shard: None, number: 0, bytes: 0 }
    }

    fn shard(&mut self) -> Result<&mut tar::Builder<BufWriter<File>>> {
        if self.bytes > SHARD_BYTES {
            self.close()?;
        }
        if self.shard.is_none() {
            let path = self.dir.join(format!("shard-{:06}.tar", self.number));
            let file = File::create(&path).with_context(|| format!("cannot write {}", path.display()))?;
            (self.number, self.bytes) = (self.number + 1, 0);
            self.shard = Some(tar::Builder::new(BufWriter::new(file)));
        }
        self.shard.as_mut().context("a shard was opened just above")
    }

    fn close(&mut self) -> Result<()> {
        if let Some(shard) = self.shard.take() {
            let file = shard.into_inner().context("cannot write a shard")?;
            file.into_inner().map_err(|e| anyhow!("cannot write a shard: {}", e.error()))?;
        }
        Ok(())
    }

    fn member(&mut self, name: &str, bytes: &[u8]) -> Result<()> {
        let mut header = tar::Header::new_ustar();
        header.set_size(bytes.len() as u64);
        header.set_mode(0o644);
        let shard = self.shard.as_mut().context("no shard is open")?;
        shard.append_data(&mut header, name, bytes).with_context(|| format!("cannot write {name} into a shard"))?;
        self.bytes += bytes.len();
        Ok(())
    }
}

/// The key is the id of a sample: it must survive the rule that a key ends at the first dot of the base name.
fn refuse_key(id: &str) -> Result<()> {
    let fits = |c: char| c.is_alphanumeric() || "-_:+=@".contains(c);
    match !id.is_empty() && id.len() <= 90 && id.chars().all(fits) {
        true => Ok(()),
        false => Err(anyhow!(
            "the id {id:?} cannot be the key of a WebDataset sample: expected letters, digits and -_:+=@, at most 90 bytes; \
             take --to jsonl or --to parquet, or give the rows other ids"
        )),
    }
}

impl Writer for Shards {
    fn add(&mut self, id: &str, row: &Row) -> Result<(), Refused> {
        refuse_key(id)?;
        let bytes = bytes(row)?;
        self.shard()?;
        for (place, bytes) in bytes.iter().enumerate() {
            let place = if row.kind() == ItemKind::Labels { String::new() } else { format!("{place}.") };
            self.member(&format!("{id}.{place}{}", ending(bytes)), bytes)?;
        }
        let mut fields = written::fields(id, row);
        fields.remove("id");
        if row.kind() == ItemKind::Lists && row.images.len() == 2 && !fields.contains_key("ranks") {
            // Two images without ranks would be read as a pair.
            let scores: Vec<Vec<f64>> = row.scores.values().cloned().collect();
            return Err(anyhow!("{id}: a list of two images ranked by scores {scores:?} cannot be told from a pair in WebDataset; take --to jsonl").into());
        }
        let json = serde_json::to_vec(&fields).context("a row as JSON")?;
        self.member(&format!("{id}.json"), &json)?;
        Ok(())
    }

    fn finish(mut self: Box<Self>) -> Result<()> {
        self.close()
    }
}
