//! The picture autoencoder of Stable Diffusion: diffusers' `AutoencoderKL` (arXiv 2112.10752, section 3.1).

use crate::error::{Error, Result};
use crate::models::component::{save_component, shallow};
use crate::models::config::ConfigFile;
use crate::models::layers::{Conv2d, GroupNorm, Linear, attend};
use crate::models::resnet::{Downsample, Resnet, ResnetShape, Upsample};
use crate::weights::{LoadOptions, Loader, ParameterShapes, WeightStore};
use serde_json::json;
use std::collections::BTreeMap;
use std::path::Path;
use tch::{Kind, Tensor};

const STEM: &str = "diffusion_pytorch_model";
/// diffusers fixes this epsilon in every normalisation of its VAE.
const EPS: f64 = 1e-6;
/// The factor of SD1.5 and SD2.1, whose files omit it.
const DEFAULT_SCALING_FACTOR: f64 = 0.18215;

/// The shape of a VAE. Values of config.json that are not implemented are refused on reading.
#[derive(Debug, Clone)]
pub struct VaeConfig {
    pub in_channels: i64,
    pub out_channels: i64,
    pub latent_channels: i64,
    /// Channels per level, outermost first.
    pub block_out_channels: Vec<i64>,
    pub layers_per_block: i64,
    pub norm_num_groups: i64,
    /// Latents of the UNet = sample x this.
    pub scaling_factor: f64,
    /// Whether the network may overflow in half precision (SDXL's does). True if the file does not state it, as in
    /// diffusers.
    pub force_upcast: bool,
    /// Side of the training pictures in pixels, also that of diffusers' tiles.
    pub sample_size: i64,
    file: ConfigFile,
}

impl VaeConfig {
    /// Reads `config.json` of a VAE folder.
    pub fn read(dir: &Path) -> Result<Self> {
        Self::from_file(ConfigFile::read(dir)?)
    }

    /// Parses a config.json of a VAE.
    pub fn from_file(file: ConfigFile) -> Result<Self> {
        file.only("_class_name", &json!("AutoencoderKL"))?;
        file.only("act_fn", &json!("silu"))?;
        for key in ["use_quant_conv", "use_post_quant_conv", "mid_block_add_attention"] {
            file.only(key, &json!(true))?;
        }
        for key in ["shift_factor", "latents_mean", "latents_std"] {
            file.absent(key)?;
        }
        let channels = file.sizes("block_out_channels")?;
        file.choices("down_block_types", &["DownEncoderBlock2D"], channels.len())?;
        file.choices("up_block_types", &["UpDecoderBlock2D"], channels.len())?;
        let config = Self {
            in_channels: file.size("in_channels", Some(3))?,
            out_channels: file.size("out_channels", Some(3))?,
            latent_channels: file.size("latent_channels", Some(4))?,
            layers_per_block: file.size("layers_per_block", Some(1))?,
            norm_num_groups: file.size("norm_num_groups", Some(32))?,
            scaling_factor: file.number("scaling_factor", DEFAULT_SCALING_FACTOR)?,
            force_upcast: file.flag("force_upcast", true)?,
            sample_size: match file.get("sample_size") {
                Some(serde_json::Value::Array(_)) => file.sizes("sample_size")?[0],
                _ => file.size("sample_size", Some(32))?,
            },
            block_out_channels: channels,
            file,
        };
        if config.block_out_channels.iter().any(|c| c % config.norm_num_groups != 0) {
            let expected = format!("multiples of norm_num_groups, which is {}", config.norm_num_groups);
            return Err(config.file.conflict("block_out_channels", expected));
        }
        if config.scaling_factor <= 0.0 {
            return Err(config.file.conflict("scaling_factor", "a positive number"));
        }
        Ok(config)
    }

    fn resnet(&self) -> ResnetShape {
        ResnetShape { groups: self.norm_num_groups, eps: EPS, time_width: None }
    }

    /// Peak bytes of decoding a picture, without weights and result: about five times the widest activation, the
    /// input of the last level (measured: 3.8 at 512 pixels, 4.8 at 256).
    pub fn decoding_bytes(&self, height: i64, width: i64, kind: Kind) -> u64 {
        let widest = self.block_out_channels.get(1).or(self.block_out_channels.first()).copied().unwrap_or(1);
        let values = [5, widest, height, width].into_iter().map(|n| n.max(0) as u64);
        values.fold(kind.elt_size_in_bytes() as u64, u64::saturating_mul)
    }

    /// Pixels per latent along a side.
    pub fn factor(&self) -> i64 {
        self.block_out_channels.iter().skip(1).fold(1, |factor, _| factor * 2)
    }

    /// The parsed config.json.
    pub fn file(&self) -> &ConfigFile {
        &self.file
    }
}

/// The distribution of the latents of a batch of images, unscaled: `[B, C, h, w]` each.
#[derive(Debug)]
pub struct Moments {
    pub mean: Tensor,
    pub std: Tensor,
}

impl Moments {
    /// `mean + std * noise`, still unscaled.
    pub fn sample(&self, noise: &Tensor) -> Tensor {
        &self.mean + &self.std * noise
    }
}

/// Images to latents and back.
#[derive(Debug)]
pub struct AutoencoderKl {
    pub(super) config: VaeConfig,
    encoder: Encoder,
    quant_conv: Conv2d,
    post_quant_conv: Conv2d,
    decoder: Decoder,
    pub(super) kind: Kind,
    parameters: BTreeMap<String, Tensor>,
}

impl AutoencoderKl {
    /// Reads a component folder: config.json and safetensors. A VAE with `force_upcast` is held in float32 instead of
    /// float16 or bfloat16.
    pub fn load(dir: &Path, options: &LoadOptions) -> Result<Self> {
        let config = VaeConfig::read(dir)?;
        Self::from_store(config, WeightStore::open_component(dir, STEM)?, options)
    }

    /// Builds the network from a configuration and a store of tensors with diffusers' names, older ones included.
    pub fn from_store(config: VaeConfig, mut store: WeightStore, options: &LoadOptions) -> Result<Self> {
        let half = matches!(options.kind, Kind::Half | Kind::BFloat16);
        let kind = if config.force_upcast && half { Kind::Float } else { options.kind };
        Self::rename(&mut store);
        let loader = Loader::new(store, &LoadOptions { kind, ..*options });
        let mut vae = Self::build(config, &loader, kind);
        vae.parameters = loader.finish()?;
        Ok(vae)
    }

    /// Renames the tensors of a file to the names of the parameters, for every version of diffusers.
    pub fn rename(store: &mut WeightStore) {
        store.rename(|name| Some(newer_name(name)));
    }

    /// The names and shapes of all parameters of a configuration, sorted by name.
    pub fn parameter_shapes(config: &VaeConfig) -> ParameterShapes {
        let loader = Loader::describing();
        Self::build(config.clone(), &loader, Kind::Float);
        loader.shapes()
    }

    fn build(config: VaeConfig, from: &Loader, kind: Kind) -> Self {
        let latent = config.latent_channels;
        Self {
            encoder: Encoder::load(&from.sub("encoder"), &config),
            quant_conv: Conv2d::load_pointwise(&from.sub("quant_conv"), 2 * latent, 2 * latent),
            post_quant_conv: Conv2d::load_pointwise(&from.sub("post_quant_conv"), latent, latent),
            decoder: Decoder::load(&from.sub("decoder"), &config),
            kind,
            parameters: BTreeMap::new(),
            config,
        }
    }

    pub fn config(&self) -> &VaeConfig {
        &self.config
    }

    /// The compute type of the network.
    pub fn kind(&self) -> Kind {
        self.kind
    }

    /// Pixels per latent along a side: 8 in Stable Diffusion.
    pub fn factor(&self) -> i64 {
        self.config.factor()
    }

    /// `images: [B, 3, H, W]` in [-1, 1]; H and W are multiples of `factor`.
    pub fn encode(&self, images: &Tensor) -> Result<Moments> {
        let factor = self.factor();
        let channels = self.config.in_channels;
        let fits = |side: i64| side > 0 && side % factor == 0;
        if !matches!(images.size()[..], [_, c, h, w] if c == channels && fits(h) && fits(w)) {
            let expected = format!("[B, {channels}, H, W] with H and W multiples of {factor}");
            return Err(Error::Shape { what: "a batch of images", expected, found: format!("{:?}", images.size()) });
        }
        let h = self.quant_conv.forward(&self.encoder.forward(&images.to_kind(self.kind)), None);
        let latent = self.config.latent_channels;
        let std = (h.narrow(1, latent, latent).clamp(-30.0, 20.0) * 0.5).exp();
        Ok(Moments { mean: h.narrow(1, 0, latent), std })
    }

    /// Latents of the UNet (scaled), `[B, C, h, w]`, to images `[B, 3, H, W]`, about [-1, 1], not clamped.
    pub fn decode(&self, latents: &Tensor) -> Result<Tensor> {
        let channels = self.config.latent_channels;
        if !matches!(latents.size()[..], [_, c, h, w] if c == channels && h > 0 && w > 0) {
            let found = format!("{:?}", latents.size());
            return Err(Error::Shape { what: "a batch of latents", expected: format!("[B, {channels}, h, w]"), found });
        }
        let latents = latents.to_kind(self.kind) / self.config.scaling_factor;
        Ok(self.decoder.forward(&self.post_quant_conv.forward(&latents, None)))
    }

    /// Shallow clones of all parameters, sorted by name.
    pub fn named_parameters(&self) -> Vec<(String, Tensor)> {
        shallow(&self.parameters)
    }

    /// Writes config.json and the weights in `kind`.
    pub fn save(&self, dir: &Path, kind: Kind) -> Result<()> {
        save_component(dir, STEM, &self.config.file, kind, self.named_parameters())
    }
}

/// Names of the attention's projections in older files.
fn newer_name(name: &str) -> String {
    const RENAMED: [(&str, &str); 4] =
        [(".query.", ".to_q."), (".key.", ".to_k."), (".value.", ".to_v."), (".proj_attn.", ".to_out.0.")];
    match RENAMED.iter().find(|(old, _)| name.contains("mid_block.attentions.") && name.contains(old)) {
        Some((old, new)) => name.replace(old, new),
        None => name.to_string(),
    }
}

/// `mid_block`: resnet, attention with one head over all pixels, resnet.
#[derive(Debug)]
struct Mid {
    first: Resnet,
    attention: Attention,
    second: Resnet,
}

impl Mid {
    fn load(from: &Loader, config: &VaeConfig, channels: i64) -> Self {
        let resnet = |j: i64| Resnet::load(&from.sub(&format!("resnets.{j}")), config.resnet(), channels, channels);
        let attention = Attention::load(&from.sub("attentions.0"), config.norm_num_groups, channels);
        Self { first: resnet(0), attention, second: resnet(1) }
    }

    fn forward(&self, x: &Tensor) -> Tensor {
        let x = self.attention.forward(&self.first.forward(x, None, None));
        self.second.forward(&x, None, None)
    }
}

#[derive(Debug)]
struct Attention {
    group_norm: GroupNorm,
    to_q: Linear,
    to_k: Linear,
    to_v: Linear,
    to_out: Linear,
}

impl Attention {
    fn load(from: &Loader, groups: i64, channels: i64) -> Self {
        let linear = |name: &str| Linear::load(&from.sub(name), channels, channels, true);
        Self {
            group_norm: GroupNorm::load(&from.sub("group_norm"), groups, channels, EPS),
            to_q: linear("to_q"),
            to_k: linear("to_k"),
            to_v: linear("to_v"),
            to_out: linear("to_out.0"),
        }
    }

    /// `[B, C, H, W] -> [B, C, H, W]`.
    fn forward(&self, x: &Tensor) -> Tensor {
        let flat = self.group_norm.forward(x).flatten(2, 3).transpose(1, 2).contiguous(); // [B, H * W, C]
        let project = |linear: &Linear| linear.forward(&flat, None);
        let h = attend(&project(&self.to_q), &project(&self.to_k), &project(&self.to_v), 1, false);
        self.to_out.forward(&h, None).transpose(1, 2).reshape(x.size()) + x
    }
}

#[derive(Debug)]
struct Encoder {
    conv_in: Conv2d,
    levels: Vec<(Vec<Resnet>, Option<Downsample>)>,
    mid: Mid,
    conv_norm_out: GroupNorm,
    conv_out: Conv2d,
}

impl Encoder {
    fn load(from: &Loader, config: &VaeConfig) -> Self {
        let channels = &config.block_out_channels;
        let (first, last) = (channels[0], channels[channels.len() - 1]);
        let mut levels = Vec::new();
        let mut input = first;
        for (level, &output) in channels.iter().enumerate() {
            let from = from.sub(&format!("down_blocks.{level}"));
            let mut resnets = Vec::new();
            for j in 0..config.layers_per_block {
                resnets.push(Resnet::load(&from.sub(&format!("resnets.{j}")), config.resnet(), input, output));
                input = output;
            }
            let halves = level + 1 < channels.len();
            levels.push((resnets, halves.then(|| Downsample::load_padding_after(&from, output))));
        }
        Self {
            conv_in: Conv2d::load(&from.sub("conv_in"), config.in_channels, first, 1),
            levels,
            mid: Mid::load(&from.sub("mid_block"), config, last),
            conv_norm_out: GroupNorm::load(&from.sub("conv_norm_out"), config.norm_num_groups, last, EPS),
            conv_out: Conv2d::load(&from.sub("conv_out"), last, 2 * config.latent_channels, 1),
        }
    }

    fn forward(&self, images: &Tensor) -> Tensor {
        let mut x = self.conv_in.forward(images, None);
        for (resnets, downsample) in &self.levels {
            for resnet in resnets {
                x = resnet.forward(&x, None, None);
            }
            if let Some(downsample) = downsample {
                x = downsample.forward(&x, None);
            }
        }
        let x = self.mid.forward(&x);
        self.conv_out.forward(&self.conv_norm_out.forward(&x).silu(), None)
    }
}

#[derive(Debug)]
struct Decoder {
    conv_in: Conv2d,
    mid: Mid,
    levels: Vec<(Vec<Resnet>, Option<Upsample>)>,
    conv_norm_out: GroupNorm,
    conv_out: Conv2d,
}

impl Decoder {
    fn load(from: &Loader, config: &VaeConfig) -> Self {
        let channels = &config.block_out_channels;
        let (first, last) = (channels[0], channels[channels.len() - 1]);
        let mut levels = Vec::new();
        let mut input = last;
        for (index, &output) in channels.iter().rev().enumerate() {
            let from = from.sub(&format!("up_blocks.{index}"));
            let mut resnets = Vec::new();
            for j in 0..=config.layers_per_block {
                resnets.push(Resnet::load(&from.sub(&format!("resnets.{j}")), config.resnet(), input, output));
                input = output;
            }
            let doubles = index + 1 < channels.len();
            levels.push((resnets, doubles.then(|| Upsample::load(&from, output))));
        }
        Self {
            conv_in: Conv2d::load(&from.sub("conv_in"), config.latent_channels, last, 1),
            mid: Mid::load(&from.sub("mid_block"), config, last),
            levels,
            conv_norm_out: GroupNorm::load(&from.sub("conv_norm_out"), config.norm_num_groups, first, EPS),
            conv_out: Conv2d::load(&from.sub("conv_out"), first, config.out_channels, 1),
        }
    }

    fn forward(&self, latents: &Tensor) -> Tensor {
        let mut x = self.mid.forward(&self.conv_in.forward(latents, None));
        for (resnets, upsample) in &self.levels {
            for resnet in resnets {
                x = resnet.forward(&x, None, None);
            }
            if let Some(upsample) = upsample {
                let size = x.size();
                x = upsample.forward(&x, 2 * size[2], 2 * size[3], None);
            }
        }
        self.conv_out.forward(&self.conv_norm_out.forward(&x).silu(), None)
    }
}
