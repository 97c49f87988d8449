//! A whole LoRA: the content of one file for the networks of a model.

use super::targets::Network;
use super::weights::{LoraModule, LoraWeights};
use crate::error::{Error, Result};
use crate::models::{AdapterHost, AdapterSet};
use crate::weights::is_finite;
use std::collections::BTreeMap;
use std::path::Path;
use tch::{Kind, Tensor};

/// The LoRA of a model: of its UNet, of its text encoders, or of both.
#[derive(Debug, Default)]
pub struct Lora {
    networks: BTreeMap<Network, LoraWeights>,
}

impl Lora {
    /// A LoRA of a UNet alone.
    pub fn of_unet(weights: LoraWeights) -> Self {
        Self::of_networks([(Network::Unet, weights)])
    }

    /// A LoRA of several networks; empty parts are left out.
    pub fn of_networks(networks: impl IntoIterator<Item = (Network, LoraWeights)>) -> Self {
        Self { networks: networks.into_iter().filter(|(_, weights)| !weights.modules.is_empty()).collect() }
    }

    /// The part of one network.
    pub fn network(&self, network: Network) -> Option<&LoraWeights> {
        self.networks.get(&network)
    }

    /// Removes and returns the part of one network; empty if absent.
    pub fn take(&mut self, network: Network) -> LoraWeights {
        self.networks.remove(&network).unwrap_or_default()
    }

    /// The networks with a part, in order.
    pub fn networks(&self) -> impl Iterator<Item = (Network, &LoraWeights)> {
        self.networks.iter().map(|(network, weights)| (*network, weights))
    }

    pub fn is_empty(&self) -> bool {
        self.networks.is_empty()
    }

    /// The LoRA with its effect multiplied by `scale`.
    #[must_use]
    pub fn scaled(mut self, scale: f64) -> Self {
        for module in self.networks.values_mut().flat_map(|weights| weights.modules.values_mut()) {
            module.scale *= scale;
        }
        self
    }

    /// Refuses matrices with values that are not finite, by name; `path` is the source of the LoRA.
    pub(super) fn check_finite(&self, path: &Path) -> Result<()> {
        for (network, weights) in &self.networks {
            for (module, LoraModule { a, b, .. }) in &weights.modules {
                if !is_finite(a)? || !is_finite(b)? {
                    let problem = format!("{}.{module} has values that are not finite", network.name());
                    return Err(Error::unusable(path, problem, "the LoRA is damaged: make or download it again"));
                }
            }
        }
        Ok(())
    }

    /// Several LoRAs as one with the sum of their effects: a forward pass uses one set, so their ranks are
    /// concatenated.
    pub fn joined(loras: Vec<Self>) -> Result<Self> {
        let mut by_module: BTreeMap<(Network, String), Vec<LoraModule>> = BTreeMap::new();
        for (network, weights) in loras.into_iter().flat_map(|lora| lora.networks) {
            for (path, module) in weights.modules {
                by_module.entry((network, path)).or_default().push(module);
            }
        }
        let mut joined = Self::default();
        for ((network, path), modules) in by_module {
            let weights = joined.networks.entry(network).or_default();
            weights.modules.insert(path, LoraModule::joined(&modules)?);
        }
        Ok(joined)
    }

    /// Attaches the part of one network; None without one.
    pub fn attach(&self, network: Network, to: &mut dyn AdapterHost) -> Result<Option<AdapterSet>> {
        self.networks.get(&network).map(|weights| weights.attach(to)).transpose()
    }

    /// A weight plus the LoRA, summed in float32 (float64 stays float64) and not rounded back. `name` is the
    /// parameter's, for example `mid_block.attentions.0.proj_in.weight`. Other weights are returned unchanged.
    pub fn merged(&self, network: Network, name: &str, weight: Tensor) -> Result<Tensor> {
        let module = name.strip_suffix(".weight").and_then(|path| self.networks.get(&network)?.modules.get(path));
        let Some(module) = module else { return Ok(weight) };
        let wide = if weight.kind() == Kind::Double { Kind::Double } else { Kind::Float };
        let product = module.product(&weight.size(), wide)?.f_to_device(weight.device())?;
        Ok(weight.f_to_kind(wide)?.f_add(&product)?)
    }
}
