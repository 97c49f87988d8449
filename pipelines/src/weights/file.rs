//! One memory-mapped safetensors file.

use crate::dtype::kind_of_stored;
use crate::error::{Error, Result};
use memmap2::Mmap;
use safetensors::{Dtype, SafeTensorError, SafeTensors};
use std::collections::BTreeMap;
use std::ops::Range;
use std::path::{Path, PathBuf};
use tch::{Kind, Tensor};

const AGAIN: &str = "download or copy the file again";

/// A safetensors file with checked header, offsets and length.
#[derive(Debug)]
pub struct TensorFile {
    path: PathBuf,
    map: Mmap,
    entries: BTreeMap<String, Entry>,
    metadata: BTreeMap<String, String>,
}

#[derive(Debug)]
struct Entry {
    dtype: Dtype,
    shape: Vec<i64>,
    bytes: Range<usize>,
}

impl TensorFile {
    /// Opens and checks a file. Truncated, damaged and foreign files are errors that name the file. A pickle is
    /// refused with the way to convert it.
    pub fn open(path: &Path) -> Result<Self> {
        if is_pickle_name(path) && path.exists() {
            return Err(Error::unusable(path, "this is a pickle, not a safetensors file", pickle_hint(path)));
        }
        let file = std::fs::File::open(path).map_err(|e| Error::io("open", path, e))?;
        // SAFETY: the map is read-only and private to this value. A file shortened meanwhile by another process
        // raises SIGBUS, as in every program that maps its weights.
        let map = unsafe { Mmap::map(&file) }.map_err(|e| Error::io("map", path, e))?;
        let (header, parsed) = SafeTensors::read_metadata(&map).map_err(|e| refuse(path, &map, e))?;
        let mut entries = BTreeMap::new();
        for (name, info) in parsed.tensors() {
            let (start, end) = info.data_offsets;
            let shape = info.shape.iter().map(|&d| i64::try_from(d)).collect::<std::result::Result<Vec<_>, _>>();
            let shape = shape.map_err(|_| Error::unusable(path, format!("{name} has an impossible shape"), AGAIN))?;
            let bytes = header.saturating_add(8).saturating_add(start)..header.saturating_add(8).saturating_add(end);
            if map.get(bytes.clone()).is_none() {
                return Err(Error::unusable(path, format!("the file ends before the data of {name}"), AGAIN));
            }
            entries.insert(name, Entry { dtype: info.dtype, shape, bytes });
        }
        let metadata = parsed.metadata().clone().unwrap_or_default().into_iter().collect();
        Ok(Self { path: path.to_path_buf(), map, entries, metadata })
    }

    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The names of all tensors, sorted.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.entries.keys().map(String::as_str)
    }

    pub fn shape(&self, name: &str) -> Option<&[i64]> {
        self.entries.get(name).map(|e| e.shape.as_slice())
    }

    /// The stored kind of a tensor; None for an absent tensor or a kind that libtorch lacks.
    pub fn kind(&self, name: &str) -> Option<Kind> {
        self.entries.get(name).and_then(|entry| kind_of_stored(entry.dtype))
    }

    /// The file's name of a tensor's type if it is not a floating point kind.
    pub fn not_floating(&self, name: &str) -> Option<String> {
        let entry = self.entries.get(name)?;
        let floating = matches!(entry.dtype, Dtype::F16 | Dtype::BF16 | Dtype::F32 | Dtype::F64);
        (!floating).then(|| format!("{:?}", entry.dtype))
    }

    /// The texts of the header's `__metadata__`.
    pub fn metadata(&self) -> &BTreeMap<String, String> {
        &self.metadata
    }

    /// A copy of one tensor on the CPU, in its stored kind.
    pub fn tensor(&self, name: &str) -> Result<Tensor> {
        let entry = self.entries.get(name);
        let entry = entry.ok_or_else(|| Error::unusable(&self.path, format!("there is no tensor {name}"), AGAIN))?;
        let kind = kind_of_stored(entry.dtype).ok_or_else(|| {
            let problem = format!("{name} is of the type {:?}, which cannot be read", entry.dtype);
            Error::unusable(&self.path, problem, "convert the file to float32, float16 or bfloat16")
        })?;
        let bytes = self.map.get(entry.bytes.clone()).unwrap_or_default();
        // libtorch reads as many bytes as the shape has, whatever the slice holds: it must not pass the end.
        let numel = entry.shape.iter().try_fold(1_i64, |n, &d| n.checked_mul(d));
        let wanted = numel.and_then(|n| usize::try_from(n).ok()).and_then(|n| n.checked_mul(kind.elt_size_in_bytes()));
        if wanted != Some(bytes.len()) {
            let problem = format!("{name} has {} bytes of data for the shape {:?}", bytes.len(), entry.shape);
            return Err(Error::unusable(&self.path, problem, AGAIN));
        }
        if bytes.is_empty() {
            return Ok(Tensor::f_empty(&entry.shape, (kind, tch::Device::Cpu))?);
        }
        let tensor = Tensor::f_from_data_size(bytes, &entry.shape, kind)?;
        self.release(&entry.bytes);
        Ok(tensor)
    }
}

impl TensorFile {
    /// Returns the memory of copied pages to the system, so that reading a file tensor by tensor does not fill
    /// memory.
    fn release(&self, bytes: &Range<usize>) {
        #[cfg(unix)]
        {
            // SAFETY: the map is a read-only view of a file: a dropped page is read again from the file.
            let dropped = unsafe {
                let advice = memmap2::UncheckedAdvice::DontNeed;
                self.map.unchecked_advise_range(advice, bytes.start, bytes.len())
            };
            // Ignored advice costs only memory.
            let _ = dropped;
        }
    }
}

/// Whether the name is that of a Python pickle.
pub(super) fn is_pickle_name(path: &Path) -> bool {
    path.extension().is_some_and(|e| ["bin", "ckpt", "pt", "pth"].iter().any(|known| e.eq_ignore_ascii_case(known)))
}

/// The way from a pickle to a safetensors file, by its probable content.
pub(super) fn pickle_hint(path: &Path) -> String {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    let (stem, end) = name.rsplit_once('.').unwrap_or((&name, ""));
    let convert = if end == "bin" {
        "DiffusionPipeline.from_pretrained(MODEL).save_pretrained(NEW, safe_serialization=True), and use the folder NEW"
            .to_string()
    } else {
        format!(
            "d = torch.load(\"{name}\", map_location=\"cpu\", weights_only=True); d = d.get(\"state_dict\", d); \
             safetensors.torch.save_file({{k: v.contiguous() for k, v in d.items() if hasattr(v, \"shape\")}}, \
             \"{stem}.safetensors\"), and use {stem}.safetensors"
        )
    };
    format!("a pickle can run code and is never loaded. Convert it once with Python, where you trust it: {convert}")
}

/// Describes the probable content of a file that is no whole safetensors file.
fn refuse(path: &Path, bytes: &[u8], error: SafeTensorError) -> Error {
    if bytes.starts_with(b"version https://git-lfs") {
        let hint = "fetch the real file with `git lfs pull`, or download it again";
        return Error::unusable(path, "this is a git-lfs pointer, not the weights", hint);
    }
    if bytes.starts_with(b"PK\x03\x04") || bytes.starts_with(b"\x80\x02") {
        return Error::unusable(path, "this is a pickle, not a safetensors file", pickle_hint(path));
    }
    if matches!(error, SafeTensorError::MetadataIncompleteBuffer | SafeTensorError::InvalidHeaderLength) {
        let problem = format!("the file is truncated or has bytes too many ({} bytes, {error})", bytes.len());
        return Error::unusable(path, problem, AGAIN);
    }
    if matches!(error, SafeTensorError::HeaderTooSmall) {
        return Error::unusable(path, format!("the file is truncated: it has only {} bytes", bytes.len()), AGAIN);
    }
    Error::unusable(path, format!("this is not a whole safetensors file ({error})"), AGAIN)
}
