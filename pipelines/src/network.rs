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
    /// What the network predicts, in the parameterisation of its process: latents `[B, C, h, w]`, result likewise.
    ///
    /// # Errors
    /// Shapes that do not fit the network; a tensor that `conditioning` lacks.
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

    /// Which parts a differentiated forward pass computes a second time instead of keeping what they made.
    fn set_recompute(&mut self, recompute: Recompute);

    /// Writes config.json and the weights in `kind`; `values` replaces the network's own (an EMA, for example).
    fn save(&self, dir: &Path, kind: Kind, values: Option<&[(String, Tensor)]>) -> Result<()>;
}

/// What the config.json of a network describes, without weights.
pub trait Architecture: Debug + Send + Sync {
    /// The config.json that was read.
    fn file(&self) -> &ConfigFile;

    /// C of the latents.
    fn latent_channels(&self) -> i64;

    /// Side of the latents that the network was trained on.
    fn native_side(&self) -> i64;

    /// Width of the prompt embeddings, by which LoRAs of different families are told apart.
    fn context_width(&self) -> i64;

    /// Names of the tensors of [`Conditioning`] that `predict` reads.
    fn conditioning(&self) -> &'static [&'static str];

    /// Names and shapes of all parameters, sorted by name.
    fn parameter_shapes(&self) -> ParameterShapes;

    /// Layers that can wear a LoRA.
    fn layer_shapes(&self) -> LayerShapes;

    /// Key of config.json and value, of everything that makes another network of it.
    fn shape(&self) -> Vec<(&'static str, String)>;

    /// Key of config.json and value, of everything that makes a network of equal shapes compute something else.
    fn computation(&self) -> Vec<(&'static str, String)>;

    /// The name of a parameter or module in a single-file checkpoint; `None` where it has none there.
    fn original_name(&self, name: &str) -> Option<String>;

    /// The name of a module in kohya's LoRA files, dots in place of underscores.
    fn kohya_name(&self, path: &str) -> String;

    /// Builds the network out of tensors with the names of [`Architecture::parameter_shapes`].
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
