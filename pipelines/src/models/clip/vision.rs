//! CLIP's vision tower, a vision transformer (arXiv 2010.11929): transformers' `CLIPVisionModel`.

use super::block::{Activation, Attention, Block, BlockShape};
use crate::error::{Error, Result};
use crate::models::config::ConfigFile;
use crate::models::layers::LayerNorm;
use crate::weights::Loader;
use serde_json::json;
use tch::Tensor;

/// Prefix of all parameters.
const PREFIX: &str = "vision_model";

/// The shape of a vision tower. Values that are not implemented are refused on reading.
#[derive(Debug, Clone)]
pub struct ClipVisionConfig {
    /// Side of the input in pixels.
    pub image_size: i64,
    /// Side of a patch in pixels.
    pub patch_size: i64,
    pub layers: i64,
    pub blocks: BlockShape,
}

impl ClipVisionConfig {
    /// Parses the vision tower's part of a CLIP's config.json.
    pub fn from_file(file: &ConfigFile) -> Result<Self> {
        file.only("num_channels", &json!(3))?;
        let width = file.size("hidden_size", Some(768))?;
        let blocks = BlockShape {
            width,
            wide: file.size("intermediate_size", Some(3072))?,
            heads: file.size("num_attention_heads", Some(12))?,
            activation: Activation::read(file)?,
            eps: file.number("layer_norm_eps", 1e-5)?,
        };
        if width % blocks.heads != 0 {
            return Err(file.conflict("num_attention_heads", format!("a divisor of hidden_size, {width}")));
        }
        let config = Self {
            image_size: file.size("image_size", Some(224))?,
            patch_size: file.size("patch_size", Some(32))?,
            layers: file.size("num_hidden_layers", Some(12))?,
            blocks,
        };
        if config.patch_size > config.image_size {
            let expected = format!("at most image_size, {}", config.image_size);
            return Err(file.conflict("patch_size", expected));
        }
        Ok(config)
    }

    /// Number of patches in a picture.
    pub fn patches(&self) -> i64 {
        (self.image_size / self.patch_size).pow(2)
    }
}

/// Outputs of the tower for a batch of pictures.
#[derive(Debug)]
pub struct VisionOutput {
    /// `[B, 1 + patches, D]`: the class token first; without the last norm
    pub last_hidden_state: Tensor,
    /// `[B, D]`: the class token after the last norm
    pub pooled: Tensor,
}

/// The tower.
#[derive(Debug)]
pub struct ClipVisionModel {
    config: ClipVisionConfig,
    /// `[D, 3, p, p]`
    patch_embedding: Tensor,
    /// `[D]`
    class_embedding: Tensor,
    /// `[1 + patches, D]`
    position_embedding: Tensor,
    pre_layer_norm: LayerNorm,
    blocks: Vec<Block>,
    post_layer_norm: LayerNorm,
}

impl ClipVisionModel {
    pub(super) fn build(config: ClipVisionConfig, from: &Loader) -> Self {
        let vision = from.sub(PREFIX);
        let (BlockShape { width, eps, .. }, patch) = (config.blocks, config.patch_size);
        let block = |i: i64| Block::load(&vision.sub(&format!("encoder.layers.{i}")), config.blocks, Attention::Full);
        let embeddings = vision.sub("embeddings");
        Self {
            patch_embedding: embeddings.tensor("patch_embedding.weight", &[width, 3, patch, patch]),
            class_embedding: embeddings.tensor("class_embedding", &[width]),
            position_embedding: embeddings.tensor("position_embedding.weight", &[config.patches() + 1, width]),
            // Misspelt in transformers, and so in every file.
            pre_layer_norm: LayerNorm::load(&vision.sub("pre_layrnorm"), width, eps),
            blocks: (0..config.layers).map(block).collect(),
            post_layer_norm: LayerNorm::load(&vision.sub("post_layernorm"), width, eps),
            config,
        }
    }

    pub fn config(&self) -> &ClipVisionConfig {
        &self.config
    }

    /// `pixels: [B, 3, S, S]`, normalised, where S is `image_size`.
    ///
    /// # Errors
    /// Pixels of another shape.
    pub fn forward(&self, pixels: &Tensor) -> Result<VisionOutput> {
        let side = self.config.image_size;
        let size = pixels.size();
        if !matches!(size[..], [batch, 3, height, width] if batch > 0 && height == side && width == side) {
            let (expected, found) = (format!("[B, 3, {side}, {side}]"), format!("{size:?}"));
            return Err(Error::Shape { what: "a batch of pictures", expected, found });
        }
        let stride = [self.config.patch_size; 2];
        let patches = pixels.f_conv2d::<Tensor>(&self.patch_embedding, None, stride, [0, 0], [1, 1], 1)?;
        let patches = patches.flatten(2, 3).transpose(1, 2); // [B, patches, D]
        let class = self.class_embedding.expand([size[0], 1, self.config.blocks.width], false);
        let x = Tensor::cat(&[class, patches], 1) + &self.position_embedding;
        let mut x = self.pre_layer_norm.forward(&x);
        for block in &self.blocks {
            x = block.forward(&x, None);
        }
        let pooled = self.post_layer_norm.forward(&x.select(1, 0));
        Ok(VisionOutput { last_hidden_state: x, pooled })
    }
}
