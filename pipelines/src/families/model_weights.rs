//! The networks of a model for a merge: tensor by tensor, float64, checked against each other.

use super::declaration::{DIFFUSERS, Family};
use super::folder::ModelFolder;
use super::registry::of_network;
use crate::error::{Error, Result};
use crate::lora::{LoraTargets, Network};
use crate::models::{ClipTextConfig, ClipTextModel, ConfigFile};
use crate::network::{Architecture, first_difference};
use crate::schedulers::PredictionType;
use crate::weights::{ParameterShapes, WeightStore, check_store, is_finite};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use tch::{Kind, Tensor};

/// The UNet of a model, and its text encoders if it is a whole model.
pub struct ModelWeights {
    path: PathBuf,
    architecture: Arc<dyn Architecture>,
    text: Vec<ClipTextConfig>,
    /// None: unknown for a UNet folder.
    prediction: Option<PredictionType>,
    family: Option<Family>,
    parts: BTreeMap<Network, (WeightStore, ParameterShapes)>,
}

impl ModelWeights {
    /// The networks of a whole model. Checks names and shapes against its descriptions.
    pub fn of_model(folder: &ModelFolder) -> Result<Self> {
        let (architecture, store) = folder.network_parts(None)?;
        let shapes = architecture.parameter_shapes();
        let mut parts = BTreeMap::from([(Network::Unet, (store, shapes))]);
        for (network, (_, mut store, config)) in Network::TEXT_ENCODERS.into_iter().zip(folder.text_parts()?) {
            ClipTextModel::rename(&mut store);
            parts.insert(network, (store, ClipTextModel::parameter_shapes(config)));
        }
        Self {
            path: folder.path().to_path_buf(),
            architecture,
            text: folder.text().to_vec(),
            prediction: Some(folder.scheduler().prediction_type),
            family: Some(folder.family()),
            parts,
        }
        .checked()
    }

    /// A UNet folder: config.json and weights.
    pub fn of_unet(dir: &Path) -> Result<Self> {
        let file = ConfigFile::read(dir)?;
        let architecture = (of_network(&file).network.describe)(file)?;
        Self::of_network_alone(dir, architecture, WeightStore::open_component(dir, DIFFUSERS)?)
    }

    /// The UNet of a folder, or the model's own.
    pub(super) fn of_unet_for(model: &ModelFolder, dir: Option<&Path>) -> Result<Self> {
        let (architecture, store) = model.network_parts(dir)?;
        Self::of_network_alone(dir.unwrap_or(model.path()), architecture, store)
    }

    fn of_network_alone(path: &Path, architecture: Arc<dyn Architecture>, store: WeightStore) -> Result<Self> {
        let parts = BTreeMap::from([(Network::Unet, (store, architecture.parameter_shapes()))]);
        let (path, text) = (path.to_path_buf(), Vec::new());
        Self { path, architecture, text, prediction: None, family: None, parts }.checked()
    }

    fn checked(self) -> Result<Self> {
        for (store, shapes) in self.parts.values() {
            check_store(store, shapes)?;
        }
        Ok(self)
    }

    pub fn path(&self) -> &Path {
        &self.path
    }

    pub fn architecture(&self) -> &dyn Architecture {
        &*self.architecture
    }

    /// None for a UNet alone.
    pub fn family(&self) -> Option<Family> {
        self.family
    }

    /// The layers available to a LoRA of these networks.
    pub fn lora_targets(&self) -> LoraTargets {
        LoraTargets::new(&*self.architecture, &self.text)
    }

    /// The existing networks.
    pub fn networks(&self) -> impl Iterator<Item = Network> {
        self.parts.keys().copied()
    }

    pub fn has(&self, network: Network) -> bool {
        self.parts.contains_key(&network)
    }

    /// Names and shapes of a network's parameters, sorted by name; empty for an absent network.
    pub fn shapes(&self, network: Network) -> &[(String, Vec<i64>)] {
        self.parts.get(&network).map(|(_, shapes)| shapes.as_slice()).unwrap_or_default()
    }

    /// The stored kind of the UNet.
    pub fn kind(&self) -> Kind {
        let stored = self.parts.get(&Network::Unet).and_then(|(store, _)| store.kind(store.names().next()?));
        stored.unwrap_or(Kind::Float)
    }

    /// One parameter in its stored kind, in the network's own shape.
    pub fn tensor(&self, network: Network, name: &str) -> Result<Tensor> {
        let known = self.parts.get(&network);
        let found = known.and_then(|(store, shapes)| Some((store, shapes.iter().find(|(known, _)| known == name)?)));
        match found {
            Some((store, (_, shape))) => Ok(store.tensor(name)?.f_view(shape.as_slice())?),
            None => Err(Error::unusable(
                &self.path,
                format!("there is no {} {name}", network.name()),
                "use the whole model",
            )),
        }
    }

    /// One parameter in float64.
    ///
    /// # Errors
    /// Values that are not finite: a sum would spread them without a trace of their origin.
    pub fn finite_tensor(&self, network: Network, name: &str) -> Result<Tensor> {
        self.finite(network, name, self.tensor(network, name)?)
    }

    pub(super) fn finite(&self, network: Network, name: &str, tensor: Tensor) -> Result<Tensor> {
        if !is_finite(&tensor)? {
            let problem = format!("{} {name} has values that are not finite", network.name());
            return Err(Error::unusable(&self.path, problem, "the weights are damaged: use another checkpoint"));
        }
        Ok(tensor.f_to_kind(Kind::Double)?)
    }

    /// Refuses weights that cannot be added to those of `frame`: other names or shapes (listed), another computation
    /// with equal shapes, or another prediction type.
    pub fn check_fits(&self, frame: &Self) -> Result<()> {
        let other = || frame.path.clone();
        for (network, (_, shapes)) in &frame.parts {
            let Some((store, _)) = self.parts.get(network) else { continue };
            match check_store(store, shapes) {
                Err(Error::Tensors(problems)) => {
                    return Err(Error::Architecture { other: other(), problems });
                }
                result => result?,
            }
        }
        if let Some((key, found, expected)) =
            first_difference(self.architecture.computation(), frame.architecture.computation())
        {
            let problem = format!("its UNet's `{key}` is {found}, and {expected} in {}", frame.path.display());
            return Err(Error::unusable(&self.path, problem, "merge models that were trained from one base"));
        }
        match (self.prediction, frame.prediction) {
            (Some(own), Some(theirs)) if own != theirs => {
                let problem = format!("it predicts {own:?}, and {} predicts {theirs:?}", frame.path.display());
                Err(Error::unusable(&self.path, problem, "merge models that were trained from one base"))
            }
            _ => Ok(()),
        }
    }
}
