//! Writing safetensors: the same tensors give the same bytes, and a file appears only when it is whole.

use crate::error::{Error, Result};
use serde_json::{Map, Value, json};
use std::io::{BufWriter, Write};
use std::path::Path;
use tch::{Kind, Tensor};

/// Writes tensors and header texts to `path`. The header is sorted here because the safetensors crate writes its
/// metadata in the order of a hash map, which differs from run to run.
pub fn write_safetensors(path: &Path, tensors: &[(String, Tensor)], metadata: &[(&str, &str)]) -> Result<()> {
    let mut order: Vec<&(String, Tensor)> = tensors.iter().collect();
    // Wide elements first keeps every tensor aligned, as the safetensors crate does it.
    order.sort_by_key(|(name, tensor)| (std::cmp::Reverse(tensor.kind().elt_size_in_bytes()), name.clone()));
    let header = header(path, &order, metadata)?;
    write_file(path, |out| {
        out.write_all(&(header.len() as u64).to_le_bytes())?;
        out.write_all(&header)?;
        for (_, tensor) in &order {
            out.write_all(&bytes(tensor).map_err(std::io::Error::other)?)?;
        }
        Ok(())
    })
}

fn header(path: &Path, order: &[&(String, Tensor)], metadata: &[(&str, &str)]) -> Result<Vec<u8>> {
    let mut entries = Map::new();
    if !metadata.is_empty() {
        let mut texts = metadata.to_vec();
        texts.sort_unstable();
        let texts: Map<String, Value> = texts.iter().map(|(k, v)| ((*k).to_string(), json!(v))).collect();
        entries.insert("__metadata__".into(), Value::Object(texts));
    }
    let mut start = 0;
    for (name, tensor) in order {
        let dtype = dtype(tensor.kind()).ok_or_else(|| {
            Error::Invalid(format!("{}: {name} is {:?}, which safetensors cannot hold", path.display(), tensor.kind()))
        })?;
        let end = start + tensor.numel() * tensor.kind().elt_size_in_bytes();
        entries.insert(name.clone(), json!({"dtype": dtype, "shape": tensor.size(), "data_offsets": [start, end]}));
        start = end;
    }
    if entries.len() != order.len() + usize::from(!metadata.is_empty()) {
        return Err(Error::Invalid(format!("{}: two tensors have the same name", path.display())));
    }
    let mut header = Value::Object(entries).to_string().into_bytes();
    header.resize(header.len().next_multiple_of(8), b' ');
    Ok(header)
}

fn dtype(kind: Kind) -> Option<&'static str> {
    Some(match kind {
        Kind::Half => "F16",
        Kind::BFloat16 => "BF16",
        Kind::Float => "F32",
        Kind::Double => "F64",
        Kind::Int64 => "I64",
        Kind::Int => "I32",
        Kind::Int16 => "I16",
        Kind::Int8 => "I8",
        Kind::Uint8 => "U8",
        Kind::Bool => "BOOL",
        _ => return None,
    })
}

/// The elements in row-major order, whatever the tensor's strides and device are.
fn bytes(tensor: &Tensor) -> std::result::Result<Vec<u8>, tch::TchError> {
    let tensor = tensor.detach().f_to_device(tch::Device::Cpu)?.f_contiguous()?;
    let mut bytes = vec![0; tensor.numel() * tensor.kind().elt_size_in_bytes()];
    if !bytes.is_empty() {
        tensor.f_copy_data_u8(&mut bytes, tensor.numel())?;
    }
    Ok(bytes)
}

/// Writes a file beside its target, syncs it and renames it over the target (mode 0644): a crash leaves the old
/// file or the new one, never a half.
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
