//! Writing safetensors: equal tensors give equal bytes, and a file appears only once it is whole.

use crate::dtype::stored_of_kind;
use crate::error::{Error, Result};
use serde_json::{Map, Value, json};
use std::collections::BTreeMap;
use std::io::{BufWriter, Write};
use std::path::Path;
use tch::{Kind, Tensor};

/// Entry of a tensor to be written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    pub name: String,
    pub kind: Kind,
    pub shape: Vec<i64>,
}

/// Writes tensors and header texts to `path`.
pub fn write_safetensors(path: &Path, tensors: &[(String, Tensor)], metadata: &[(&str, &str)]) -> Result<()> {
    let entry =
        |(name, tensor): &(String, Tensor)| Entry { name: name.clone(), kind: tensor.kind(), shape: tensor.size() };
    let by_name: BTreeMap<&str, &Tensor> = tensors.iter().map(|(name, tensor)| (name.as_str(), tensor)).collect();
    let found = |name: &str| match by_name.get(name) {
        Some(tensor) => Ok(tensor.shallow_clone()),
        None => Err(Error::Invalid(format!("there is no tensor {name}"))),
    };
    write_streaming(path, tensors.iter().map(entry).collect(), metadata, &mut |name| found(name))
}

/// Writes a file whose tensors are made one after the other, with one of them in memory: `make` returns the tensor of
/// a name, with the kind and shape of its entry.
///
/// Equal tensors give equal bytes: the header is sorted here, because the safetensors crate writes its metadata in
/// the random order of a hash map. An error of `make` leaves no file.
pub fn write_streaming(
    path: &Path,
    mut entries: Vec<Entry>,
    metadata: &[(&str, &str)],
    make: &mut dyn FnMut(&str) -> Result<Tensor>,
) -> Result<()> {
    // Wide elements first keeps every tensor aligned, as in the safetensors crate.
    entries.sort_by(|a, b| {
        let width = |e: &Entry| std::cmp::Reverse(e.kind.elt_size_in_bytes());
        (width(a), &a.name).cmp(&(width(b), &b.name))
    });
    let header = header(path, &entries, metadata)?;
    let mut failure = None;
    let written = write_file(path, |out| {
        out.write_all(&(header.len() as u64).to_le_bytes())?;
        out.write_all(&header)?;
        for entry in &entries {
            match make(&entry.name).and_then(|tensor| checked_bytes(entry, &tensor)) {
                Ok(bytes) => out.write_all(&bytes)?,
                Err(error) => return Err(std::io::Error::other(failure.insert(error).to_string())),
            }
        }
        Ok(())
    });
    match failure {
        Some(error) => Err(error),
        None => written,
    }
}

fn checked_bytes(entry: &Entry, tensor: &Tensor) -> Result<Vec<u8>> {
    if (tensor.kind(), tensor.size()) != (entry.kind, entry.shape.clone()) {
        let expected = format!("{:?} {:?}", entry.kind, entry.shape);
        let found = format!("{:?} {:?}", tensor.kind(), tensor.size());
        return Err(Error::Invalid(format!("{} became {found}, expected {expected}", entry.name)));
    }
    Ok(bytes(tensor)?)
}

fn header(path: &Path, order: &[Entry], metadata: &[(&str, &str)]) -> Result<Vec<u8>> {
    let mut entries = Map::new();
    if !metadata.is_empty() {
        let mut texts = metadata.to_vec();
        texts.sort_unstable();
        let texts: Map<String, Value> = texts.iter().map(|(k, v)| ((*k).to_string(), json!(v))).collect();
        entries.insert("__metadata__".into(), Value::Object(texts));
    }
    let mut start = 0;
    for Entry { name, kind, shape } in order {
        let dtype = stored_of_kind(*kind).ok_or_else(|| {
            Error::Invalid(format!("{}: {name} is {kind:?}, which safetensors cannot hold", path.display()))
        })?;
        let numel = shape.iter().try_fold(1_usize, |n, &d| n.checked_mul(usize::try_from(d).ok()?));
        let length = numel.and_then(|n| n.checked_mul(kind.elt_size_in_bytes()));
        let Some(length) = length else {
            return Err(Error::Invalid(format!("{}: {name} has an impossible shape {shape:?}", path.display())));
        };
        let end = start + length;
        entries.insert(name.clone(), json!({"dtype": dtype.to_string(), "shape": shape, "data_offsets": [start, end]}));
        start = end;
    }
    if entries.len() != order.len() + usize::from(!metadata.is_empty()) {
        return Err(Error::Invalid(format!("{}: two tensors have the same name", path.display())));
    }
    let mut header = Value::Object(entries).to_string().into_bytes();
    header.resize(header.len().next_multiple_of(8), b' ');
    Ok(header)
}

/// The elements in row-major order, for every stride and device.
fn bytes(tensor: &Tensor) -> std::result::Result<Vec<u8>, tch::TchError> {
    let tensor = tensor.detach().f_to_device(tch::Device::Cpu)?.f_contiguous()?;
    let mut bytes = vec![0; tensor.numel() * tensor.kind().elt_size_in_bytes()];
    if !bytes.is_empty() {
        tensor.f_copy_data_u8(&mut bytes, tensor.numel())?;
    }
    Ok(bytes)
}

/// Writes a temporary file, syncs it and renames it over the target (mode 0644): a crash leaves the old file or the
/// new one, never a part.
pub fn write_file(path: &Path, write: impl FnOnce(&mut dyn Write) -> std::io::Result<()>) -> Result<()> {
    let folder = match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    };
    let attempt = || -> std::io::Result<()> {
        let mut builder = tempfile::Builder::new();
        #[cfg(unix)]
        builder.permissions(std::os::unix::fs::PermissionsExt::from_mode(0o644));
        let mut temporary = builder.prefix(".partial-").tempfile_in(folder)?;
        let mut buffered = BufWriter::with_capacity(1 << 20, temporary.as_file_mut());
        write(&mut buffered)?;
        buffered.flush()?;
        drop(buffered);
        temporary.as_file().sync_all()?;
        temporary.persist(path).map_err(|e| e.error)?;
        std::fs::File::open(folder)?.sync_all()
    };
    attempt().map_err(|e| Error::io("write", path, e))
}
