//! A trained scorer beside its CLIP: scorer.json and, for a head with weights, head.safetensors.

use super::head::Head;
use super::method::{Built, Method, Objective};
use crate::machine::files::write_atomically;
use anyhow::{Context, Result, ensure};
use pipelines::weights::{WeightStore, check_store, write_safetensors};
use serde::{Deserialize, Serialize};
use std::path::Path;
use tch::Device;

/// Description of a trained scorer.
pub const FILE: &str = "scorer.json";
/// Weights of its head.
pub const WEIGHTS: &str = "head.safetensors";

crate::choice! {
    /// How pictures become input of the CLIP.
    pub enum Preprocessed {
        /// Shorter side resized, then the centre: CLIP, PickScore.
        Crop = "crop",
        /// Longer side resized, then black bars: HPSv2.
        Bars = "bars",
    }
}

/// scorer.json
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Saved {
    pub method: Method,
    pub preprocessing: Preprocessed,
    /// Width of the CLIP's features.
    pub width: i64,
    #[serde(default)]
    pub users: Vec<String>,
    #[serde(default)]
    pub dimensions: Vec<String>,
    /// SHA-256 of the data files whose labels it was trained on; empty: captions, or written before this was kept.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub data_sha256: Vec<String>,
    /// Figures on held-out data, for people.
    #[serde(default)]
    pub figures: serde_json::Value,
}

impl Saved {
    /// Reads scorer.json of a folder; `None` without one.
    ///
    /// # Errors
    /// A damaged file.
    pub fn read(dir: &Path) -> Result<Option<Self>> {
        let file = dir.join(FILE);
        if !file.is_file() {
            return Ok(None);
        }
        let text = std::fs::read(&file).with_context(|| format!("cannot read {}", file.display()))?;
        let saved = serde_json::from_slice(&text).with_context(|| {
            format!("{}: expected the {FILE} that `diffpref train-scorer` writes; restore the file", file.display())
        })?;
        Ok(Some(saved))
    }

    /// Writes scorer.json and the weights of the head into a folder.
    ///
    /// # Errors
    /// A folder that cannot be written.
    pub fn write(&self, dir: &Path, head: &dyn Head) -> Result<()> {
        let parameters = head.parameters();
        if !parameters.is_empty() {
            write_safetensors(&dir.join(WEIGHTS), &parameters, &[("format", "pt")])?;
        }
        let mut text = serde_json::to_vec_pretty(self)?;
        text.push(b'\n');
        write_atomically(&dir.join(FILE), &text)
    }

    /// The head with the weights of a folder. `users`: those of the head, in order; all others keep their start values.
    ///
    /// # Errors
    /// Missing or damaged weights, or weights of another head.
    pub fn head(&self, dir: &Path, device: Device) -> Result<Box<dyn Head>> {
        let lacks_users = self.objective().reads_users() && self.users.is_empty();
        let lacks_dimensions = self.objective() == Objective::Dimensions && self.dimensions.is_empty();
        ensure!(
            !lacks_users && !lacks_dimensions,
            "{}: the head \"{}\" has no users or dimensions; restore {FILE}",
            dir.display(),
            self.objective()
        );
        let head = self.method.head(&Built {
            width: self.width,
            users: &self.users,
            dimensions: &self.dimensions,
            only_users: false,
            seed: 0,
            device,
        });
        let parameters = head.parameters();
        if parameters.is_empty() {
            return Ok(head);
        }
        let file = dir.join(WEIGHTS);
        ensure!(
            file.is_file(),
            "{} is missing: {} says that its head \"{}\" has weights; copy it from the folder that was trained",
            file.display(),
            FILE,
            self.objective()
        );
        let store = WeightStore::from_file(&file)?;
        check_store(&store, &parameters.iter().map(|(name, tensor)| (name.clone(), tensor.size())).collect())?;
        let _frozen = tch::no_grad_guard();
        for (name, tensor) in parameters {
            tensor.shallow_clone().f_copy_(&store.tensor(&name)?)?;
        }
        Ok(head)
    }

    /// Whether the cosine of the CLIP is the rating without the head too.
    pub fn head_is_optional(&self) -> bool {
        match self.objective() {
            Objective::Contrastive
            | Objective::Pickscore
            | Objective::Hpsv2
            | Objective::Btt
            | Objective::Ranklist
            | Objective::DisagreementMargin
            | Objective::Uncertainty => true,
            Objective::Gpm
            | Objective::Dimensions
            | Objective::Pal
            | Objective::Lore
            | Objective::Dprm
            | Objective::More => false,
        }
    }

    /// The objective.
    pub fn objective(&self) -> Objective {
        self.method.objective()
    }
}
