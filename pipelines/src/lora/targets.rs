//! Layers of a model's networks in every naming of LoRA files.

use super::weights::{LoraWeights, no_such_layer};
use crate::models::{ClipTextConfig, ClipTextModel, LayerShapes};
use crate::network::Architecture;
use std::collections::{BTreeMap, HashMap};

/// A network with a LoRA.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Network {
    Unet,
    TextEncoder,
    /// SDXL's second
    TextEncoder2,
}

impl Network {
    /// The text encoders, in the order in which a family has them.
    pub const TEXT_ENCODERS: [Self; 2] = [Self::TextEncoder, Self::TextEncoder2];

    /// The component's name, the prefix of module paths in files of diffusers.
    pub fn name(self) -> &'static str {
        match self {
            Self::Unet => "unet",
            Self::TextEncoder => "text_encoder",
            Self::TextEncoder2 => "text_encoder_2",
        }
    }
}

/// The layers of a model available to a LoRA, and their names in files.
#[derive(Debug, Clone)]
pub struct LoraTargets {
    layers: BTreeMap<Network, LayerShapes>,
    /// kohya's names of the denoiser's layers, with dots for underscores.
    kohya_names: BTreeMap<String, String>,
    context_width: i64,
}

impl LoraTargets {
    /// The layers of a denoiser and of its text encoders, in order.
    pub fn new(denoiser: &dyn Architecture, text_encoders: &[ClipTextConfig]) -> Self {
        let text = Network::TEXT_ENCODERS.into_iter().zip(text_encoders);
        let mut layers: BTreeMap<Network, LayerShapes> =
            text.map(|(network, config)| (network, ClipTextModel::layer_shapes(config))).collect();
        let own = denoiser.layer_shapes();
        let kohya_names = own.keys().map(|path| (path.clone(), denoiser.kohya_name(path))).collect();
        layers.insert(Network::Unet, own);
        Self { layers, kohya_names, context_width: denoiser.context_width() }
    }

    /// Width of the prompt embeddings, which identifies the family.
    pub(super) fn context_width(&self) -> i64 {
        self.context_width
    }

    /// Whether the model has such a network.
    pub fn has(&self, network: Network) -> bool {
        self.layers.contains_key(&network)
    }

    /// The shape of a layer's weight.
    pub fn weight_shape(&self, network: Network, path: &str) -> Option<&[i64]> {
        self.layers.get(&network)?.get(path).map(Vec::as_slice)
    }

    /// The first module of `weights` without a layer in the network.
    pub(super) fn check(&self, network: Network, weights: &LoraWeights) -> Result<(), String> {
        match weights.modules.keys().find(|path| self.weight_shape(network, path).is_none()) {
            Some(path) => Err(no_such_layer(&format!("{}.{path}", network.name()))),
            None => Ok(()),
        }
    }

    /// kohya's name of a module.
    pub(super) fn kohya_name(&self, network: Network, path: &str) -> String {
        let two_encoders = self.has(Network::TextEncoder2);
        let underscored = |path: &str| path.replace('.', "_");
        match network {
            Network::Unet => {
                format!("lora_unet_{}", underscored(self.kohya_names.get(path).map_or(path, String::as_str)))
            }
            Network::TextEncoder if two_encoders => format!("lora_te1_{}", underscored(path)),
            Network::TextEncoder => format!("lora_te_{}", underscored(path)),
            Network::TextEncoder2 => format!("lora_te2_{}", underscored(path)),
        }
    }

    /// Every possible name of a module in files, without the suffix of the matrix. kohya's underscores cannot be
    /// split back, so the names of all known modules are generated and looked up.
    pub(super) fn names(&self) -> HashMap<String, (Network, String)> {
        let mut names = HashMap::new();
        for (network, layers) in &self.layers {
            for path in layers.keys() {
                for name in self.names_of(*network, path) {
                    names.insert(name, (*network, path.clone()));
                }
            }
        }
        names
    }

    fn names_of(&self, network: Network, path: &str) -> Vec<String> {
        let underscored = path.replace('.', "_");
        let mut names = vec![format!("{}.{path}", network.name()), self.kohya_name(network, path)];
        match network {
            Network::Unet => names.extend([
                path.to_string(),
                format!("base_model.model.{path}"),
                format!("lora_unet_{underscored}"),
                format!("lycoris_{underscored}"),
            ]),
            Network::TextEncoder => names.push(format!("lora_te_{underscored}")),
            Network::TextEncoder2 => {}
        }
        // Some files omit the common prefix of a text encoder's layers.
        let short = path.strip_prefix("text_model.").filter(|_| network != Network::Unet);
        names.extend(short.map(|path| format!("{}.{path}", network.name())));
        names
    }
}
