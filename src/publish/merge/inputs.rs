//! Inputs of a merge: models, UNets and LoRAs, recognised, opened and hashed.

use super::operation::refused;
use super::recipe::{Recipe, Term};
use crate::machine::hashes::HashMemory;
use crate::progress::Progress;
use anyhow::{Context, Result};
use pipelines::families::{Combination, Difference, Family, ModelFolder, ModelWeights, standard_of_lora};
use pipelines::hub::Location;
use pipelines::lora::{Lora, LoraTargets};
use pipelines::weights::component_files;
use serde_json::{Value, json};
use std::path::{Path, PathBuf};

/// One input of a sum.
enum Source {
    Model { folder: Box<ModelFolder>, weights: Box<ModelWeights> },
    Unet(Box<ModelWeights>),
    Lora(PathBuf),
}

impl Source {
    fn open(path: &Path, progress: &dyn Progress) -> Result<Self> {
        if Lora::is_at(path) {
            return Ok(Self::Lora(path.to_path_buf()));
        }
        let unet_alone = path.join("config.json").is_file() && !path.join("model_index.json").exists();
        if unet_alone {
            return Ok(Self::Unet(Box::new(ModelWeights::of_unet(path)?)));
        }
        let location = Location { path: path.to_path_buf(), revision: None, variant: None };
        let folder = ModelFolder::find(&location, &mut |line| progress.line(line))?;
        Ok(Self::Model { weights: Box::new(ModelWeights::of_model(&folder)?), folder: Box::new(folder) })
    }

    fn weights(&self) -> Option<&ModelWeights> {
        match self {
            Self::Model { weights, .. } | Self::Unet(weights) => Some(weights),
            Self::Lora(_) => None,
        }
    }

    /// Files of the weights. Those of the VAE are copied and no part of the sum.
    fn files(&self) -> Result<Vec<PathBuf>> {
        Ok(match self {
            Self::Model { folder, .. } => {
                let merged = folder.weight_files().into_iter().filter(|(component, _)| *component != "vae");
                merged.map(|(_, file)| file).collect()
            }
            Self::Unet(weights) => component_files(weights.path(), "diffusion_pytorch_model", None)?,
            Self::Lora(path) => vec![Lora::file_in(path)],
        })
    }
}

/// The opened inputs of a recipe.
pub struct Inputs {
    recipe: Recipe,
    frame: Option<Source>,
    from: Option<Source>,
    terms: Vec<Source>,
}

impl Inputs {
    /// Opens everything: reads names, shapes and descriptions, no weights.
    pub fn open(recipe: Recipe, progress: &dyn Progress) -> Result<Self> {
        let whole = |term: &Option<Term>| -> Result<Option<Source>> {
            let Some(term) = term else { return Ok(None) };
            let source = Source::open(&term.path, progress)?;
            if let Source::Lora(path) = &source {
                let (path, role) = (path.display(), term.role);
                return Err(refused(format!("--{role} {path}: this is a LoRA; give the model that it is for")));
            }
            Ok(Some(source))
        };
        let (frame, from) = (whole(&recipe.frame)?, whole(&recipe.from)?);
        let terms = recipe.terms.iter().map(|term| Source::open(&term.path, progress)).collect::<Result<_>>()?;
        Ok(Self { recipe, frame, from, terms })
    }

    pub fn recipe(&self) -> &Recipe {
        &self.recipe
    }

    /// The whole model of the frame; None if it is a UNet alone, or absent.
    pub fn folder(&self) -> Option<&ModelFolder> {
        match &self.frame {
            Some(Source::Model { folder, .. }) => Some(folder),
            Some(Source::Unet(_) | Source::Lora(_)) | None => None,
        }
    }

    /// The networks of the frame.
    pub fn frame(&self) -> Option<&ModelWeights> {
        self.frame.as_ref().and_then(Source::weights)
    }

    /// The layers available to a LoRA, and the family if known.
    pub fn targets(&self) -> Result<(LoraTargets, Option<Family>)> {
        match (self.frame(), self.recipe.terms.first()) {
            (Some(frame), _) => Ok((frame.lora_targets(), frame.family())),
            (None, Some(term)) => {
                let (targets, family) = standard_of_lora(&term.path, None)?;
                Ok((targets, Some(family)))
            }
            (None, None) => Err(refused("nothing was named to merge")),
        }
    }

    /// The LoRAs among the terms as one, ranks concatenated. Terms of weight 0 are read and checked, but left out.
    pub fn lora(&self, targets: &LoraTargets) -> Result<Lora> {
        let mut loras = Vec::new();
        for (term, source) in self.recipe.terms.iter().zip(&self.terms) {
            let Source::Lora(path) = source else { continue };
            let lora = Lora::read(path, targets).with_context(|| format!("cannot use the LoRA {}", path.display()))?;
            if term.weight != 0.0 {
                loras.push(lora.scaled(term.weight));
            }
        }
        Ok(Lora::joined(loras)?)
    }

    /// The sum as a change of the frame's weights.
    pub fn combination<'a>(&'a self, frame: &'a ModelWeights) -> Result<Combination<'a>> {
        let terms = self.recipe.terms.iter().zip(&self.terms);
        let from = self.from.as_ref().and_then(Source::weights);
        let differences = terms
            .filter_map(|(term, source)| Some(Difference { to: source.weights()?, from, weight: term.weight }))
            .collect();
        Ok(Combination::new(frame, differences, self.lora(&frame.lora_targets())?)?)
    }

    /// The whole models and UNets among the terms.
    pub fn added(&self) -> impl Iterator<Item = &ModelWeights> {
        self.terms.iter().filter_map(Source::weights)
    }

    /// Record of the merge:
    /// `{"operation": .., "arithmetic": "float64", "inputs": [{role, path, weight, files}, ..]}`, the files by name
    /// with their SHA-256.
    pub fn record(&self, operation: &str, cache_dir: &Path) -> Result<String> {
        let mut hashes = HashMemory::open(cache_dir);
        let one = |term: &Term, source: &Source, hashes: &mut HashMemory| -> Result<Value> {
            let files = hashes.below(&term.path, &source.files()?)?;
            Ok(json!({"role": term.role, "path": term.path, "weight": term.weight, "files": files}))
        };
        let ends = [(&self.recipe.frame, &self.frame), (&self.recipe.from, &self.from)];
        let mut inputs = Vec::new();
        for (term, source) in ends {
            if let (Some(term), Some(source)) = (term, source) {
                inputs.push(one(term, source, &mut hashes)?);
            }
        }
        for (term, source) in self.recipe.terms.iter().zip(&self.terms) {
            inputs.push(one(term, source, &mut hashes)?);
        }
        hashes.save();
        let program = concat!("diffpref ", env!("CARGO_PKG_VERSION"));
        Ok(json!({"operation": operation, "arithmetic": "float64", "inputs": inputs, "program": program}).to_string())
    }
}
