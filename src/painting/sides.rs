//! The negative side of guidance: its request, and the parts shared with the positive side.
//!
//! theta_0 is `--model`. Positive = theta_0 + (`--unet`, `--lora`). Negative = theta_0 + (`--negative-unet`,
//! `--negative-lora`), or with `--negative-merge a,b` theta_0 + a (positive - theta_0) + b (negative - theta_0)
//! (docs/methods.md 6). Both are sums of files, one term per content, so that equal files under different names are
//! loaded once.

use super::request::{LoraFile, Merge, ModelRequest};
use crate::machine::hashes::HashMemory;
use anyhow::Result;
use pipelines::families::{ModelFolder, UnetTerm};
use pipelines::lora::Lora;
use std::collections::BTreeMap;
use std::path::PathBuf;

/// Tolerance of factors, which are sums and products of a few typed numbers.
const ROUNDING: f64 = 1e-9;

/// The negative side in terms of files.
#[derive(Debug, Clone, PartialEq)]
pub struct NegativeSide {
    /// Sum of its UNet; None: the UNet of the positive side.
    pub unet: Option<Vec<UnetTerm>>,
    /// Its LoRAs; None: those of the positive side.
    pub loras: Option<Vec<LoraFile>>,
}

impl NegativeSide {
    /// Determines the files of a request's negative side; None if the positive one serves both. Files are compared by
    /// content.
    ///
    /// # Errors
    /// An unreadable file, a UNet of another architecture.
    pub fn of(request: &ModelRequest, folder: &ModelFolder, hashes: &mut HashMemory) -> Result<Option<Self>> {
        let Some(negative) = &request.negative else { return Ok(None) };
        for dir in request.unet.iter().chain(&negative.unet) {
            folder.check_same_network(dir)?;
        }
        let Merge { alpha, beta } = negative.merge.unwrap_or(Merge { alpha: 0.0, beta: 1.0 });

        let mut unet_of = |dir: &Option<PathBuf>| -> Result<(String, Option<PathBuf>)> {
            let files = folder.unet_files(dir.as_deref())?;
            Ok((hashes.of_files(&files)?.join("+"), dir.clone()))
        };
        let (own, unet, other) = (unet_of(&None)?, unet_of(&request.unet)?, unet_of(&negative.unet)?);
        let positive = Sum::of([(unet.clone(), 1.0)]);
        let sum = Sum::of([(own, 1.0 - alpha - beta), (unet, alpha), (other, beta)]);
        let terms = sum.terms().map(|(dir, factor)| UnetTerm { dir: dir.clone(), factor }).collect();
        let unet = (!sum.equals(&positive)).then_some(terms);

        let mut lora_of = |lora: &LoraFile, factor: f64| -> Result<((String, PathBuf), f64)> {
            let path = &lora.path;
            Ok(((hashes.of_file(&Lora::file_in(path))?, path.clone()), factor * lora.scale))
        };
        let worn = request.loras.iter().map(|lora| lora_of(lora, 1.0)).collect::<Result<Vec<_>>>()?;
        let others = negative.loras.iter().map(|lora| lora_of(lora, beta)).collect::<Result<Vec<_>>>()?;
        let merged = worn.iter().map(|(lora, scale)| (lora.clone(), alpha * scale));
        let sum = Sum::of(merged.chain(others));
        let files = sum.terms().map(|(path, scale)| LoraFile { path: path.clone(), scale }).collect();
        let loras = (!sum.equals(&Sum::of(worn))).then_some(files);
        Ok(Some(Self { unet, loras }))
    }
}

/// `sum_i factor_i x_i`, one term per content, none of factor 0.
struct Sum<T>(BTreeMap<String, (T, f64)>);

impl<T> Sum<T> {
    fn of(terms: impl IntoIterator<Item = ((String, T), f64)>) -> Self {
        let mut sum: BTreeMap<String, (T, f64)> = BTreeMap::new();
        for ((content, file), factor) in terms {
            sum.entry(content).or_insert((file, 0.0)).1 += factor;
        }
        sum.retain(|_, (_, factor)| factor.abs() > ROUNDING);
        Self(sum)
    }

    fn equals(&self, other: &Self) -> bool {
        let near = |a: f64, b: f64| (a - b).abs() <= ROUNDING;
        self.0.len() == other.0.len()
            && self.0.iter().all(|(content, (_, a))| other.0.get(content).is_some_and(|(_, b)| near(*a, *b)))
    }

    /// Files and factors; a factor of 1 up to rounding is 1.
    fn terms(&self) -> impl Iterator<Item = (&T, f64)> {
        self.0.values().map(|(file, factor)| (file, if (factor - 1.0).abs() <= ROUNDING { 1.0 } else { *factor }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sum(terms: &[(&str, f64)]) -> Sum<()> {
        Sum::of(terms.iter().map(|(content, factor)| ((content.to_string(), ()), *factor)))
    }

    #[test]
    fn terms_of_one_content_are_added_and_those_that_vanish_are_left_out() {
        let merged = sum(&[("base", 1.0 - 0.7 - 0.3), ("tuned", 0.7), ("tuned", 0.3)]);
        assert_eq!(merged.terms().map(|(_, factor)| factor).collect::<Vec<_>>(), [1.0]);
        assert!(merged.equals(&sum(&[("tuned", 1.0)])));
        assert!(!merged.equals(&sum(&[("base", 1.0)])) && !merged.equals(&sum(&[("tuned", 0.9)])));
        let npo = sum(&[("base", -1.0), ("aligned", 1.0), ("worse", 1.0)]);
        assert_eq!(npo.terms().map(|(_, factor)| factor).sum::<f64>(), 1.0);
    }
}
