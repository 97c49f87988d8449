//! A denoising network, loaded or described.

use crate::Result;
use crate::conditioning::Conditioning;
use crate::levels::Levels;
use crate::models::{AdapterHost, AdapterSet, ConfigFile, LayerShapes, Recompute};
use crate::weights::{LoadOptions, ParameterShapes, WeightStore};
use std::fmt::Debug;
use std::path::Path;
use tch::{Kind, Tensor};

/// A network with its weights as leaves: a trainer sets `requires_grad` on them and changes them in place.
pub trait Network: AdapterHost + Debug {
    /// Prediction in the parameterisation of the network's process: latents `[B, C, h, w]`, result of the same shape.
    ///
    /// # Errors
    /// Shapes that do not fit the network; a missing tensor of `conditioning`.
    fn predict(
        &self,
        latents: &Tensor,
        levels: &Levels,
        conditioning: &Conditioning,
        adapters: Option<AdapterSet>,
    ) -> Result<Tensor>;

    /// Shallow clones of all parameters, sorted by name: the names of the file.
    fn named_parameters(&self) -> Vec<(String, Tensor)>;

    fn architecture(&self) -> &dyn Architecture;

    /// Selects the parts that a differentiated forward pass recomputes instead of storing.
    fn set_recompute(&mut self, recompute: Recompute);

    /// Writes config.json and the weights in `kind`; `values` replaces the network's own (an EMA, for example).
    fn save(&self, dir: &Path, kind: Kind, values: Option<&[(String, Tensor)]>) -> Result<()>;
}

/// The config.json of a network, without weights.
pub trait Architecture: Debug + Send + Sync {
    /// The parsed config.json.
    fn file(&self) -> &ConfigFile;

    /// C of the latents.
    fn latent_channels(&self) -> i64;

    /// Side of the latents in training.
    fn native_side(&self) -> i64;

    /// Width of the prompt embeddings, which separates LoRAs of different families.
    fn context_width(&self) -> i64;

    /// Names of the tensors of [`Conditioning`] read by `predict`.
    fn conditioning(&self) -> &'static [&'static str];

    /// Names and shapes of all parameters, sorted by name.
    fn parameter_shapes(&self) -> ParameterShapes;

    /// Layers available to a LoRA.
    fn layer_shapes(&self) -> LayerShapes;

    /// Name of the weight of the last layer.
    fn output_layer(&self) -> &'static str;

    /// Keys of config.json, with values, that determine the shapes of the network.
    fn shape(&self) -> Vec<(&'static str, String)>;

    /// Keys of config.json, with values, that change the computation at equal shapes.
    fn computation(&self) -> Vec<(&'static str, String)>;

    /// Name of a parameter or module in a single-file checkpoint; `None` without one.
    fn original_name(&self, name: &str) -> Option<String>;

    /// Name of a module in kohya's LoRA files, with dots for underscores.
    fn kohya_name(&self, path: &str) -> String;

    /// Builds the network from tensors with the names of [`Architecture::parameter_shapes`].
    fn load(&self, store: WeightStore, options: &LoadOptions) -> Result<Box<dyn Network>>;
}

/// The first key in which two descriptions differ: key, own value, the other's.
pub(crate) fn first_difference(
    own: Vec<(&'static str, String)>,
    other: Vec<(&'static str, String)>,
) -> Option<(&'static str, String, String)> {
    let pairs = own.into_iter().zip(other);
    pairs.map(|((key, own), (_, others))| (key, own, others)).find(|(_, own, others)| own != others)
}
