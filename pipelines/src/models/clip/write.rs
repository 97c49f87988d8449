//! Writing a CLIP in the layout of another folder.

use super::layout::Layout;
use crate::error::{Error, Result};
use crate::models::converted::WEIGHTS;
use crate::weights::original::{Form, openclip_place};
use crate::weights::{TensorFile, write_safetensors};
use std::collections::BTreeMap;
use std::path::Path;
use tch::{Kind, Tensor};

/// Writes model.safetensors into the folder `out`, in the layout of the CLIP in `like`. `parameters`: all of them, under
/// the names of transformers.
///
/// # Errors
/// A folder without a CLIP; a parameter without a place in the layout.
pub fn write_like(like: &Path, out: &Path, parameters: &[(String, Tensor)], kind: Kind) -> Result<()> {
    let file = TensorFile::open(&like.join(WEIGHTS))?;
    let tensors = match Layout::of(&file, None)? {
        Layout::Transformers { .. } => parameters.iter().map(|(name, t)| (name.clone(), t.shallow_clone())).collect(),
        Layout::OpenClip { text } => open_clip(parameters, text)?,
    };
    let stored = tensors.into_iter().map(|(name, tensor)| Ok((name, tensor.detach().f_to_kind(kind)?)));
    write_safetensors(&out.join(WEIGHTS), &stored.collect::<Result<Vec<_>>>()?, &[("format", "pt")])
}

/// Parameters under the names of OpenCLIP, `text` before those of the text tower; q, k and v joined.
fn open_clip(parameters: &[(String, Tensor)], text: &str) -> Result<Vec<(String, Tensor)>> {
    let mut thirds: BTreeMap<String, BTreeMap<i64, Tensor>> = BTreeMap::new();
    let mut out = Vec::new();
    for (name, tensor) in parameters {
        let (theirs, form) =
            openclip_place(name).ok_or_else(|| Error::Invalid(format!("{name} has no place in OpenCLIP's layout")))?;
        let theirs = if name.starts_with("text_") { format!("{text}{theirs}") } else { theirs };
        let stored = form.stored_of(tensor.detach())?;
        match form {
            Form::Third(third) => drop(thirds.entry(theirs).or_default().insert(third, stored)),
            Form::Same | Form::Pointwise | Form::Transposed => out.push((theirs, stored)),
        }
    }
    for (name, parts) in thirds {
        out.push((name, Tensor::f_cat(&parts.into_values().collect::<Vec<_>>(), 0)?));
    }
    Ok(out)
}
