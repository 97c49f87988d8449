//! A UNet's config.json (diffusers' `UNet2DConditionModel`).

use crate::error::Result;
use crate::models::config::ConfigFile;
use serde_json::json;
use std::path::Path;

/// The shape of a UNet. Values of config.json that are not implemented are refused on reading.
#[derive(Debug, Clone)]
pub struct UNetConfig {
    /// Channels of the input latents, 4 in Stable Diffusion.
    pub in_channels: i64,
    pub out_channels: i64,
    /// Side of the latents in training.
    pub sample_size: i64,
    /// Channels per level, outermost first.
    pub block_out_channels: Vec<i64>,
    /// Whether a level of the way down has cross-attention.
    pub down_attention: Vec<bool>,
    /// Whether a level of the way up has cross-attention, innermost first.
    pub up_attention: Vec<bool>,
    pub layers_per_block: Vec<i64>,
    /// Transformer blocks in each attention of a level, outermost first.
    pub transformer_layers: Vec<i64>,
    /// Heads per level, outermost first: `attention_head_dim` in the file.
    pub heads: Vec<i64>,
    /// The width of the prompt embeddings.
    pub cross_attention_dim: i64,
    /// Whether proj_in and proj_out are stored as matrices (true) or as 1x1 convolutions.
    pub use_linear_projection: bool,
    pub norm_num_groups: i64,
    pub norm_eps: f64,
    /// Whether the cosines are first in the time embedding.
    pub flip_sin_to_cos: bool,
    pub freq_shift: f64,
    /// Pooled text and picture sizes in addition to the time, in SDXL.
    pub text_time: Option<TextTime>,
    pub(crate) file: ConfigFile,
}

/// `addition_embed_type = "text_time"`.
#[derive(Debug, Clone, Copy)]
pub struct TextTime {
    /// Size of the embedding of each time_id.
    pub time_width: i64,
    /// Width of pooled text and embedded time_ids, concatenated.
    pub input_width: i64,
}

/// Keys that affect the computation and are implemented at one value only.
fn fixed() -> [(&'static str, serde_json::Value); 20] {
    [
        ("act_fn", json!("silu")),
        ("attention_type", json!("default")),
        ("center_input_sample", json!(false)),
        ("class_embeddings_concat", json!(false)),
        ("conv_in_kernel", json!(3)),
        ("conv_out_kernel", json!(3)),
        ("downsample_padding", json!(1)),
        ("dropout", json!(0.0)),
        ("dual_cross_attention", json!(false)),
        ("mid_block_only_cross_attention", json!(false)),
        ("mid_block_scale_factor", json!(1)),
        ("mid_block_type", json!("UNetMidBlock2DCrossAttn")),
        ("only_cross_attention", json!(false)),
        ("resnet_out_scale_factor", json!(1.0)),
        ("resnet_skip_time_act", json!(false)),
        ("resnet_time_scale_shift", json!("default")),
        ("time_embedding_type", json!("positional")),
        ("_class_name", json!("UNet2DConditionModel")),
        ("cross_attention_norm", json!(false)),
        ("upcast_softmax", json!(false)),
    ]
}

/// Keys of parts that are not implemented.
const UNUSED: [&str; 11] = [
    "class_embed_type",
    "encoder_hid_dim",
    "encoder_hid_dim_type",
    "num_attention_heads",
    "num_class_embeds",
    "reverse_transformer_layers_per_block",
    "time_cond_proj_dim",
    "time_embedding_act_fn",
    "time_embedding_dim",
    "timestep_post_act",
    "projection_dim",
];

impl UNetConfig {
    /// Reads `config.json` of a UNet folder.
    pub fn read(dir: &Path) -> Result<Self> {
        Self::from_file(ConfigFile::read(dir)?)
    }

    /// Parses a config.json of a UNet.
    pub fn from_file(file: ConfigFile) -> Result<Self> {
        for (key, value) in fixed() {
            file.only(key, &value)?;
        }
        for key in UNUSED {
            file.absent(key)?;
        }
        let channels = file.sizes("block_out_channels")?;
        let levels = channels.len();
        let with_attention = |kinds: Vec<usize>| kinds.into_iter().map(|kind| kind == 0).collect::<Vec<_>>();
        let down = file.choices("down_block_types", &["CrossAttnDownBlock2D", "DownBlock2D"], levels)?;
        let up = file.choices("up_block_types", &["CrossAttnUpBlock2D", "UpBlock2D"], levels)?;
        let config = Self {
            in_channels: file.size("in_channels", Some(4))?,
            out_channels: file.size("out_channels", Some(4))?,
            sample_size: file.size("sample_size", Some(64))?,
            down_attention: with_attention(down),
            up_attention: with_attention(up),
            layers_per_block: file.per_block("layers_per_block", 2, levels)?,
            transformer_layers: file.per_block("transformer_layers_per_block", 1, levels)?,
            heads: file.per_block("attention_head_dim", 8, levels)?,
            cross_attention_dim: file.size("cross_attention_dim", Some(1280))?,
            use_linear_projection: file.flag("use_linear_projection", false)?,
            norm_num_groups: file.size("norm_num_groups", Some(32))?,
            norm_eps: file.number("norm_eps", 1e-5)?,
            flip_sin_to_cos: file.flag("flip_sin_to_cos", true)?,
            freq_shift: file.number("freq_shift", 0.0)?,
            text_time: text_time(&file)?,
            block_out_channels: channels,
            file,
        };
        config.check()?;
        Ok(config)
    }

    /// The width of the time embedding.
    pub fn time_width(&self) -> i64 {
        4 * self.block_out_channels.first().copied().unwrap_or_default()
    }

    /// The parsed config.json.
    pub fn file(&self) -> &ConfigFile {
        &self.file
    }

    fn check(&self) -> Result<()> {
        let groups = self.norm_num_groups;
        if self.block_out_channels.iter().any(|c| c % groups != 0 || c % 2 != 0) {
            let expected = format!("even multiples of norm_num_groups, which is {groups}");
            return Err(self.file.conflict("block_out_channels", expected));
        }
        if self.block_out_channels.iter().zip(&self.heads).any(|(channels, heads)| channels % heads != 0) {
            let expected = format!("numbers of heads that divide block_out_channels {:?}", self.block_out_channels);
            return Err(self.file.conflict("attention_head_dim", expected));
        }
        Ok(())
    }
}

fn text_time(file: &ConfigFile) -> Result<Option<TextTime>> {
    if file.get("addition_embed_type").is_none() {
        return Ok(None);
    }
    file.only("addition_embed_type", &json!("text_time"))?;
    let time_width = file.size("addition_time_embed_dim", None)?;
    let input_width = file.size("projection_class_embeddings_input_dim", None)?;
    Ok(Some(TextTime { time_width, input_width }))
}
