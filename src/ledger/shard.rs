//! A shard of a ledger: a safetensors file.
//!
//! | tensor | content |
//! |---|---|
//! | keys | `[n, 16]` uint8 |
//! | counts | `[n]` int64: rows of the record |
//! | errors | `[sum of counts]` float32 or float64, record by record |
//! | checksums | `[n]` int64: CRC-32C over the key and the bytes of the record's errors |
//!
//! The header has one text, `format`. A shard is replaced whole, by rename.

use super::key::Key;
use anyhow::{Context, Result, bail, ensure};
use pipelines::weights::{TensorFile, write_safetensors};
use std::path::Path;
use tch::{Kind, Tensor};

const FORMAT: &str = "diffpref reference ledger 1";

/// Key and errors of the rows of a forward pass.
pub type Record = (Key, Vec<f64>);

/// Content of a shard.
pub struct Read {
    /// Records whose checksum holds.
    pub whole: Vec<Record>,
    /// Number of the others.
    pub damaged: usize,
}

/// Reads a shard and checks every record.
///
/// # Errors
/// A file that is no shard, or not whole.
pub fn read(path: &Path, kind: Kind) -> Result<Read> {
    let file = TensorFile::open(path)?;
    if file.metadata().get("format").map(String::as_str) != Some(FORMAT) {
        bail!("{}: expected a shard of \"{FORMAT}\"", path.display());
    }
    let tensor = |name: &str, kind: Kind| -> Result<Tensor> {
        let found = file.tensor(name)?;
        ensure!(found.kind() == kind, "{}: {name} is {:?}, expected {kind:?}", path.display(), found.kind());
        Ok(found.flatten(0, -1))
    };
    let keys = Vec::<u8>::try_from(tensor("keys", Kind::Uint8)?)?;
    let counts = Vec::<i64>::try_from(tensor("counts", Kind::Int64)?)?;
    let checksums = Vec::<i64>::try_from(tensor("checksums", Kind::Int64)?)?;
    let errors = Vec::<f64>::try_from(tensor("errors", kind)?.to_kind(Kind::Double))?;
    let n = counts.len();
    ensure!(keys.len() == 16 * n && checksums.len() == n, "{}: its tables differ in length", path.display());
    let (mut whole, mut damaged, mut start) = (Vec::with_capacity(n), 0, 0usize);
    for (i, key) in keys.as_chunks::<16>().0.iter().enumerate() {
        // A damaged count moves all records behind it: their checksums tell.
        let end = usize::try_from(counts[i]).ok().and_then(|count| start.checked_add(count));
        let record = end.and_then(|end| errors.get(start..end));
        match record {
            Some(errors) if checksums[i] == checksum(key, errors, kind) => whole.push((*key, errors.to_vec())),
            Some(_) | None => damaged += 1,
        }
        start = end.unwrap_or(start);
    }
    Ok(Read { whole, damaged })
}

/// Number of records and of errors in a shard, from its header.
///
/// # Errors
/// A file that is no shard, or not whole.
pub fn sizes(path: &Path) -> Result<(u64, u64)> {
    let file = TensorFile::open(path)?;
    let of = |name: &str| file.shape(name).and_then(|shape| u64::try_from(*shape.first()?).ok());
    of("counts").zip(of("errors")).with_context(|| format!("{} is no shard of a ledger", path.display()))
}

/// Writes a shard, in place of an older one of that name.
///
/// # Errors
/// A file that cannot be written.
pub fn write(path: &Path, records: &[Record], kind: Kind) -> Result<()> {
    let n = records.len() as i64;
    let keys: Vec<u8> = records.iter().flat_map(|(key, _)| key).copied().collect();
    let counts: Vec<i64> = records.iter().map(|(_, errors)| errors.len() as i64).collect();
    let checksums: Vec<i64> = records.iter().map(|(key, errors)| checksum(key, errors, kind)).collect();
    let errors: Vec<f64> = records.iter().flat_map(|(_, errors)| errors).copied().collect();
    let tensors = [
        ("keys".to_string(), Tensor::from_slice(&keys).f_view([n, 16])?),
        ("counts".to_string(), Tensor::from_slice(&counts)),
        ("checksums".to_string(), Tensor::from_slice(&checksums)),
        ("errors".to_string(), Tensor::from_slice(&errors).to_kind(kind)),
    ];
    Ok(write_safetensors(path, &tensors, &[("format", FORMAT)])?)
}

fn checksum(key: &Key, errors: &[f64], kind: Kind) -> i64 {
    let add = |sum: u32, error: &f64| match kind {
        Kind::Float => crc32c::crc32c_append(sum, &(*error as f32).to_le_bytes()),
        _ => crc32c::crc32c_append(sum, &error.to_le_bytes()),
    };
    i64::from(errors.iter().fold(crc32c::crc32c(key), add))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn records() -> Vec<Record> {
        (0..5u8).map(|i| ([i; 16], (0..=i).map(|k| f64::from(f32::from(k) / 7.0)).collect())).collect()
    }

    #[test]
    fn a_shard_is_read_as_it_was_written() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a.safetensors");
        for kind in [Kind::Float, Kind::Double] {
            write(&path, &records(), kind).unwrap();
            let read = read(&path, kind).unwrap();
            assert_eq!((read.whole, read.damaged), (records(), 0));
            assert_eq!(sizes(&path).unwrap(), (5, 15));
        }
        assert!(read(&path, Kind::Float).is_err(), "errors of another type are not read");
    }

    #[test]
    fn a_flipped_bit_costs_its_record_and_no_flipped_bit_goes_unnoticed() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a.safetensors");
        write(&path, &records(), Kind::Float).unwrap();
        let bytes = std::fs::read(&path).unwrap();
        for at in 0..bytes.len() {
            let mut flipped = bytes.clone();
            flipped[at] ^= 0x10;
            std::fs::write(&path, flipped).unwrap();
            // A header with other blanks, or another spelling of its text, is still whole.
            let Ok(read) = read(&path, Kind::Float) else { continue };
            assert!(read.whole.iter().all(|record| records().contains(record)), "byte {at}");
        }
        let mut flipped = bytes.clone();
        let last = bytes.len() - 1;
        flipped[last] ^= 0x10;
        std::fs::write(&path, flipped).unwrap();
        assert_eq!(read(&path, Kind::Float).unwrap().damaged, 1);
    }

    #[test]
    fn a_shard_cut_short_anywhere_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a.safetensors");
        write(&path, &records(), Kind::Float).unwrap();
        let bytes = std::fs::read(&path).unwrap();
        for length in 0..bytes.len() {
            std::fs::write(&path, &bytes[..length]).unwrap();
            assert!(read(&path, Kind::Float).is_err(), "{length} bytes");
        }
    }
}
