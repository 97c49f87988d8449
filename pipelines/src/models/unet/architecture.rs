//! A UNet's description as an [`Architecture`].

use super::config::UNetConfig;
use super::network::UNet2DConditionModel;
use crate::Result;
use crate::conditioning::{POOLED_PROMPT_EMBEDS, PROMPT_EMBEDS, TIME_IDS};
use crate::models::component::LayerShapes;
use crate::models::config::ConfigFile;
use crate::network::{Architecture, Network};
use crate::weights::original::{UNetLayout, unet_name};
use crate::weights::{LoadOptions, ParameterShapes, WeightStore};

impl UNetConfig {
    /// Numbers of blocks in a single-file checkpoint; `None` for levels with different numbers of layers.
    fn original_layout(&self) -> Option<UNetLayout> {
        UNetLayout::of(&self.layers_per_block, &self.up_attention)
    }
}

impl Architecture for UNetConfig {
    fn file(&self) -> &ConfigFile {
        &self.file
    }

    fn latent_channels(&self) -> i64 {
        self.in_channels
    }

    fn native_side(&self) -> i64 {
        self.sample_size
    }

    fn context_width(&self) -> i64 {
        self.cross_attention_dim
    }

    fn conditioning(&self) -> &'static [&'static str] {
        match self.text_time {
            Some(_) => &[PROMPT_EMBEDS, POOLED_PROMPT_EMBEDS, TIME_IDS],
            None => &[PROMPT_EMBEDS],
        }
    }

    fn parameter_shapes(&self) -> ParameterShapes {
        UNet2DConditionModel::parameter_shapes(self)
    }

    fn layer_shapes(&self) -> LayerShapes {
        UNet2DConditionModel::layer_shapes(self)
    }

    fn output_layer(&self) -> &'static str {
        "conv_out.weight"
    }

    fn shape(&self) -> Vec<(&'static str, String)> {
        vec![
            ("in_channels", self.in_channels.to_string()),
            ("out_channels", self.out_channels.to_string()),
            ("block_out_channels", format!("{:?}", self.block_out_channels)),
            ("down_block_types with cross-attention", format!("{:?}", self.down_attention)),
            ("up_block_types with cross-attention", format!("{:?}", self.up_attention)),
            ("layers_per_block", format!("{:?}", self.layers_per_block)),
            ("transformer_layers_per_block", format!("{:?}", self.transformer_layers)),
            ("attention_head_dim", format!("{:?}", self.heads)),
            ("cross_attention_dim", self.cross_attention_dim.to_string()),
            ("use_linear_projection", self.use_linear_projection.to_string()),
            ("norm_num_groups", self.norm_num_groups.to_string()),
            ("norm_eps", self.norm_eps.to_string()),
            ("flip_sin_to_cos", self.flip_sin_to_cos.to_string()),
            ("freq_shift", self.freq_shift.to_string()),
            ("addition_embed_type", format!("{:?}", self.text_time)),
        ]
    }

    fn computation(&self) -> Vec<(&'static str, String)> {
        vec![
            ("attention_head_dim", format!("{:?}", self.heads)),
            ("norm_num_groups", self.norm_num_groups.to_string()),
            ("norm_eps", self.norm_eps.to_string()),
            ("flip_sin_to_cos", self.flip_sin_to_cos.to_string()),
            ("freq_shift", self.freq_shift.to_string()),
        ]
    }

    fn original_name(&self, name: &str) -> Option<String> {
        unet_name(name, &self.original_layout()?)
    }

    /// Blocks of SDXL have the numbers of single-file checkpoints.
    fn kohya_name(&self, path: &str) -> String {
        let original = self.text_time.and_then(|_| self.original_name(path));
        original.unwrap_or_else(|| path.to_string())
    }

    fn load(&self, store: WeightStore, options: &LoadOptions) -> Result<Box<dyn Network>> {
        Ok(Box::new(UNet2DConditionModel::from_store(self.clone(), store, options)?))
    }
}
