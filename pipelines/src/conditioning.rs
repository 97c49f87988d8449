//! Conditioning: inputs of a network besides latents and noise levels, as tensors by name, one row per sample.

use crate::{Error, Result};
use std::collections::BTreeMap;
use tch::{Device, Kind, Tensor};

/// Token embeddings of the prompt, `[B, L, D]`.
pub const PROMPT_EMBEDS: &str = "prompt_embeds";
/// The pooled embedding of the prompt, `[B, P]`.
pub const POOLED_PROMPT_EMBEDS: &str = "pooled_prompt_embeds";
/// Sizes of the picture, `[B, 6]` float32: original height and width, crop top and left, target height and width.
pub const TIME_IDS: &str = "time_ids";

/// Original height and width, crop top and left, target height and width, in pixels.
pub type PictureSizes = [i64; 6];

/// Tensors by name. Names that end in `_embeds` are embeddings of the prompt; the others do not depend on it.
#[derive(Debug, Default)]
pub struct Conditioning(BTreeMap<String, Tensor>);

impl Conditioning {
    pub fn new<N: Into<String>>(tensors: impl IntoIterator<Item = (N, Tensor)>) -> Self {
        Self(tensors.into_iter().map(|(name, tensor)| (name.into(), tensor)).collect())
    }

    /// The conditioning of a model whose only input is the prompt: `[B, L, D]`.
    pub fn of_prompt(prompt_embeds: Tensor) -> Self {
        Self::new([(PROMPT_EMBEDS, prompt_embeds)])
    }

    pub fn get(&self, name: &str) -> Option<&Tensor> {
        self.0.get(name)
    }

    pub fn iter(&self) -> impl Iterator<Item = (&str, &Tensor)> {
        self.0.iter().map(|(name, tensor)| (name.as_str(), tensor))
    }

    /// Adds a tensor, or replaces the one of that name.
    #[must_use]
    pub fn with(mut self, name: &str, tensor: Tensor) -> Self {
        self.0.insert(name.into(), tensor);
        self
    }

    /// Adds the sizes of pictures, one row per sample, on the device of the embeddings.
    #[must_use]
    pub fn with_sizes(self, rows: &[PictureSizes]) -> Self {
        let sizes = Tensor::from_slice(rows.as_flattened()).view([rows.len() as i64, 6]).to_kind(Kind::Float);
        let device = self.0.values().next().map_or(Device::Cpu, Tensor::device);
        self.with(TIME_IDS, sizes.to_device(device))
    }

    /// B; 0 without tensors.
    pub fn rows(&self) -> i64 {
        self.0.values().next().and_then(|tensor| tensor.size().first().copied()).unwrap_or_default()
    }

    /// Bytes of all tensors.
    pub fn bytes(&self) -> usize {
        self.0.values().map(|tensor| tensor.numel() * tensor.kind().elt_size_in_bytes()).sum()
    }

    /// A shallow clone: writes to one are visible in the other.
    pub fn shallow_clone(&self) -> Self {
        self.map(Tensor::shallow_clone)
    }

    /// Applies one function to every tensor.
    pub fn map(&self, f: impl Fn(&Tensor) -> Tensor) -> Self {
        self.map_named(|_, tensor| f(tensor))
    }

    fn map_named(&self, f: impl Fn(&str, &Tensor) -> Tensor) -> Self {
        Self(self.0.iter().map(|(name, tensor)| (name.clone(), f(name, tensor))).collect())
    }

    /// All tensors on `device`, embeddings in `kind`. Sizes stay in float32: bfloat16 would round 1023 to 1024, as
    /// happens in diffusers.
    pub fn to(&self, device: Device, kind: Kind) -> Self {
        self.map_named(|name, tensor| {
            tensor.to_device(device).to_kind(if is_embedding(name) { kind } else { Kind::Float })
        })
    }

    /// All tensors on the devices of `other`, embeddings in their kind.
    pub fn like(&self, other: &Self) -> Self {
        let embedding = other.0.iter().find(|(name, _)| is_embedding(name)).or(other.0.iter().next());
        embedding.map_or_else(|| self.shallow_clone(), |(_, tensor)| self.to(tensor.device(), tensor.kind()))
    }

    /// The rows of an index, `[n]` int64 on the device of the tensors.
    pub fn select(&self, index: &Tensor) -> Self {
        self.map(|tensor| tensor.index_select(0, index))
    }

    /// All rows repeated `times` times.
    pub fn repeat(&self, times: i64) -> Self {
        self.map(|tensor| tensor.repeat([&[times][..], &vec![1; tensor.dim() - 1]].concat()))
    }

    /// Zeros for the embeddings.
    pub fn without_prompt(&self) -> Self {
        self.map_named(|name, tensor| if is_embedding(name) { tensor.zeros_like() } else { tensor.shallow_clone() })
    }

    /// The embeddings of `other` instead of its own.
    pub fn with_prompt_of(&self, other: &Self) -> Self {
        let own = self.0.iter().filter(|(name, _)| !is_embedding(name));
        let others = other.0.iter().filter(|(name, _)| is_embedding(name));
        Self(own.chain(others).map(|(name, tensor)| (name.clone(), tensor.shallow_clone())).collect())
    }

    /// Concatenation, `[B_1 + B_2 + .., ..]`.
    ///
    /// # Errors
    /// A tensor that only some have; shapes that do not match.
    pub fn stacked(all: &[&Self]) -> Result<Self> {
        let names: std::collections::BTreeSet<&String> = all.iter().flat_map(|one| one.0.keys()).collect();
        let stack = |name: &String| {
            let parts: Option<Vec<&Tensor>> = all.iter().map(|one| one.0.get(name)).collect();
            let parts = parts.ok_or_else(|| {
                Error::Invalid(format!("one side has {name}, the other has none: use models of one family"))
            })?;
            Ok((name.clone(), Tensor::f_cat(&parts, 0)?))
        };
        names.into_iter().map(stack).collect::<Result<_>>().map(Self)
    }
}

fn is_embedding(name: &str) -> bool {
    name.ends_with("_embeds")
}
