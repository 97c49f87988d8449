//! The negative side of guidance: its request, and the parts shared with the positive side.
//!
//! theta_0 is `--model`. Positive = theta_0 + (`--unet`, `--lora`). Negative = theta_0 + (`--negative-unet`,
//! `--negative-lora`), or with `--negative-merge a,b` theta_0 + a (positive - theta_0) + b (negative - theta_0)
//! (docs/methods.md 6). Both are sums of files, one term per content, so that equal files under different names are
//! loaded once.

use super::{LoraFile, ModelRequest};
use crate::machine::hashes::HashMemory;
use crate::settings::ConfigError;
use anyhow::Result;
use pipelines::families::{ModelFolder, UnetTerm};
use pipelines::lora::Lora;
use serde_json::{Map, Value, json};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// Tolerance of factors, which are sums and products of a few typed numbers.
const ROUNDING: f64 = 1e-9;

/// Files of the negative side, in addition to a prompt.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct NegativeRequest {
    /// None: the model's own UNet.
    pub unet: Option<PathBuf>,
    /// All are applied at once.
    pub loras: Vec<LoraFile>,
    /// None: the negative side unchanged, alpha 0 and beta 1.
    pub merge: Option<Merge>,
}

/// Weights of the positive (`alpha`) and of the negative offset (`beta`) in the negative model; published by NPO: 1,
/// 1.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Merge {
    pub alpha: f64,
    pub beta: f64,
}

impl std::str::FromStr for Merge {
    type Err = String;

    /// `alpha,beta`
    fn from_str(text: &str) -> Result<Self, String> {
        let number = |text: &str| text.trim().parse::<f64>().ok().filter(|value| value.is_finite());
        match text.split_once(',').map(|(alpha, beta)| (number(alpha), number(beta))) {
            Some((Some(alpha), Some(beta))) => Ok(Self { alpha, beta }),
            _ => Err(format!("{text:?}: expected two numbers, alpha,beta, for example 1,1")),
        }
    }
}

impl NegativeRequest {
    /// The negative side of some options; None without any.
    ///
    /// # Errors
    /// A merge without anything to merge.
    pub fn of(unet: Option<PathBuf>, loras: Vec<LoraFile>, merge: Option<Merge>) -> Result<Option<Self>, ConfigError> {
        match (unet.is_some() || !loras.is_empty(), merge) {
            (true, _) => Ok(Some(Self { unet, loras, merge })),
            (false, None) => Ok(None),
            (false, Some(Merge { alpha, beta })) => Err(ConfigError(format!(
                "--negative-merge {alpha},{beta}: there is no negative side to merge; give --negative-unet or --negative-lora too"
            ))),
        }
    }
}

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
            let contents = files.iter().map(|file| hashes.of_file(file)).collect::<Result<Vec<_>>>()?;
            Ok((contents.join("+"), dir.clone()))
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

impl ModelRequest {
    /// `{"unet", "loras", "merge", "weights"}` of the negative side, every file with its hash; null without one.
    pub fn negative_record(&self, folder: &ModelFolder, hashes: &mut HashMemory) -> Result<Value> {
        let Some(negative) = &self.negative else { return Ok(Value::Null) };
        let mut weights = Map::new();
        let mut name = |part: &str, dir: Option<&Path>| -> Result<()> {
            for file in folder.unet_files(dir)? {
                let hash = hashes.of_file(&file)?;
                weights
                    .insert(format!("{part}/{}", file.file_name().unwrap_or_default().to_string_lossy()), json!(hash));
            }
            Ok(())
        };
        name("unet", negative.unet.as_deref())?;
        if negative.merge.is_some() {
            name("base", None)?;
        }
        Ok(json!({
            "unet": negative.unet.as_ref().map(|dir| dir.display().to_string()),
            "loras": super::lora_hashes(&negative.loras, hashes)?,
            "merge": negative.merge.map(|merge| [merge.alpha, merge.beta]),
            "weights": weights,
        }))
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

    #[test]
    fn a_merge_is_two_numbers() {
        assert_eq!("1, 0.5".parse(), Ok(Merge { alpha: 1.0, beta: 0.5 }));
        for text in ["1", "1,", "a,b", "1,inf", "1,1,1"] {
            assert!(text.parse::<Merge>().unwrap_err().contains("expected two numbers, alpha,beta"), "{text}");
        }
    }
}
