//! CLIP's text tower (arXiv 2103.00020), which Stable Diffusion has for a text encoder: transformers' `CLIPTextModel` and `CLIPTextModelWithProjection`.

use super::block::{Activation, Attention, Block, BlockShape};
use crate::error::{Error, Result};
use crate::models::component::{LayerShapes, layer_shapes, save_component, shallow};
use crate::models::config::ConfigFile;
use crate::models::layers::{AdapterHost, AdapterSet, Adapters, LayerNorm, Linear};
use crate::weights::{LoadOptions, Loader, ParameterShapes, WeightStore};
use serde_json::json;
use std::collections::BTreeMap;
use std::path::Path;
use tch::{Kind, Tensor};

const STEM: &str = "model";
/// Prefix of all parameters except the projection.
const PREFIX: &str = "text_model";
/// The end token in every configuration by transformers before 4.31, whatever the tokenizer's was.
const LEGACY_END: i64 = 2;

/// The shape of a text encoder. Values of config.json that are not implemented are refused on reading.
#[derive(Debug, Clone)]
pub struct ClipTextConfig {
    pub vocab_size: i64,
    pub hidden_size: i64,
    pub intermediate_size: i64,
    pub layers: i64,
    pub heads: i64,
    /// Tokens in a prompt, start and end included: 77 in Stable Diffusion.
    pub max_length: i64,
    pub activation: Activation,
    pub eps: f64,
    pub eos_token_id: i64,
    /// Width of the projected pooled output; only for `CLIPTextModelWithProjection`.
    pub projection: Option<i64>,
    file: ConfigFile,
}

impl ClipTextConfig {
    /// Reads `config.json` of a text encoder folder.
    pub fn read(dir: &Path) -> Result<Self> {
        Self::from_file(ConfigFile::read(dir)?)
    }

    /// Parses a config.json of a text encoder.
    pub fn from_file(file: ConfigFile) -> Result<Self> {
        file.only("model_type", &json!("clip_text_model"))?;
        let projects = file.get("architectures") == Some(&json!(["CLIPTextModelWithProjection"]));
        let projection = if projects { Some(file.size("projection_dim", Some(512))?) } else { None };
        Self::with_projection(file, projection)
    }

    /// The tower of a CLIP from its part of the configuration, or an encoder of its own.
    pub(super) fn with_projection(file: ConfigFile, projection: Option<i64>) -> Result<Self> {
        let width = file.size("hidden_size", Some(512))?;
        let config = Self {
            vocab_size: file.size("vocab_size", Some(49408))?,
            hidden_size: width,
            intermediate_size: file.size("intermediate_size", Some(2048))?,
            layers: file.size("num_hidden_layers", Some(12))?,
            heads: file.size("num_attention_heads", Some(8))?,
            max_length: file.size("max_position_embeddings", Some(77))?,
            activation: Activation::read(&file)?,
            eps: file.number("layer_norm_eps", 1e-5)?,
            // transformers' own default since 4.31
            eos_token_id: file.integer("eos_token_id", 49407)?,
            projection,
            file,
        };
        if width % config.heads != 0 {
            return Err(config.file.conflict("num_attention_heads", format!("a divisor of hidden_size, {width}")));
        }
        Ok(config)
    }

    fn blocks(&self) -> BlockShape {
        BlockShape {
            width: self.hidden_size,
            wide: self.intermediate_size,
            heads: self.heads,
            activation: self.activation,
            eps: self.eps,
        }
    }

    /// The parsed config.json.
    pub fn file(&self) -> &ConfigFile {
        &self.file
    }
}

/// Outputs of the encoder for a batch of prompts.
#[derive(Debug)]
pub struct ClipOutput {
    /// `[B, L, D]`, after the final norm
    pub last_hidden_state: Tensor,
    /// The embeddings and the output of every block: `layers + 1` of `[B, L, D]`, without norm
    pub hidden_states: Vec<Tensor>,
    /// `[B, D]` at the end token after the final norm; `[B, P]` with a projection
    pub pooled: Tensor,
}

/// The encoder, its weights as leaves.
#[derive(Debug)]
pub struct ClipTextModel {
    config: ClipTextConfig,
    token_embedding: Tensor,
    position_embedding: Tensor,
    blocks: Vec<Block>,
    final_layer_norm: LayerNorm,
    text_projection: Option<Linear>,
    parameters: BTreeMap<String, Tensor>,
    adapter_sets: usize,
}

impl ClipTextModel {
    /// Reads a component folder: config.json and safetensors.
    pub fn load(dir: &Path, options: &LoadOptions) -> Result<Self> {
        let config = ClipTextConfig::read(dir)?;
        Self::from_store(config, WeightStore::open_component(dir, STEM)?, options)
    }

    /// Builds the encoder from a configuration and a store of tensors, named with or without `text_model.`.
    pub fn from_store(config: ClipTextConfig, mut store: WeightStore, options: &LoadOptions) -> Result<Self> {
        Self::rename(&mut store);
        let loader = Loader::new(store, options);
        let mut clip = Self::build(config, &loader);
        clip.parameters = loader.finish()?;
        Ok(clip)
    }

    /// Renames the tensors of a file to the names of the parameters, for every version of transformers.
    pub fn rename(store: &mut WeightStore) {
        store.rename(with_prefix);
    }

    /// The names and shapes of all parameters of a configuration, sorted by name.
    pub fn parameter_shapes(config: &ClipTextConfig) -> ParameterShapes {
        let loader = Loader::describing();
        Self::build(config.clone(), &loader);
        loader.shapes()
    }

    /// The layers of a configuration available to a LoRA.
    pub fn layer_shapes(config: &ClipTextConfig) -> LayerShapes {
        layer_shapes(&mut Self::build(config.clone(), &Loader::describing()))
    }

    pub(super) fn build(config: ClipTextConfig, from: &Loader) -> Self {
        let width = config.hidden_size;
        let text = from.sub(PREFIX);
        let block = |i: i64| Block::load(&text.sub(&format!("encoder.layers.{i}")), config.blocks(), Attention::Causal);
        let embeddings = text.sub("embeddings");
        Self {
            token_embedding: embeddings.tensor("token_embedding.weight", &[config.vocab_size, width]),
            position_embedding: embeddings.tensor("position_embedding.weight", &[config.max_length, width]),
            blocks: (0..config.layers).map(block).collect(),
            final_layer_norm: LayerNorm::load(&text.sub("final_layer_norm"), width, config.eps),
            text_projection: config.projection.map(|p| Linear::load(&from.sub("text_projection"), width, p, false)),
            parameters: BTreeMap::new(),
            adapter_sets: 0,
            config,
        }
    }

    pub fn config(&self) -> &ClipTextConfig {
        &self.config
    }

    /// `ids: [B, L]` int64, padded, in the vocabulary; L is at most `max_length`. Without attention mask: padding
    /// takes part, as in Stable Diffusion.
    pub fn forward(&self, ids: &Tensor, adapters: Option<AdapterSet>) -> Result<ClipOutput> {
        self.check(ids)?;
        let length = ids.size()[1];
        let positions = self.position_embedding.narrow(0, 0, length); // [L, D]
        let mut x = Tensor::embedding(&self.token_embedding, ids, -1, false, false) + positions;
        let mut hidden_states = vec![x.shallow_clone()];
        for block in &self.blocks {
            x = block.forward(&x, adapters);
            hidden_states.push(x.shallow_clone());
        }
        let last_hidden_state = self.final_layer_norm.forward(&x);
        let pooled = self.pool(&last_hidden_state, ids, adapters);
        Ok(ClipOutput { last_hidden_state, hidden_states, pooled })
    }

    /// The final norm over a hidden state, as diffusers applies it after `clip_skip`.
    pub fn final_norm(&self, hidden_state: &Tensor) -> Tensor {
        self.final_layer_norm.forward(hidden_state)
    }

    /// The state at the end token of every prompt.
    fn pool(&self, states: &Tensor, ids: &Tensor, adapters: Option<AdapterSet>) -> Tensor {
        let ends = match self.config.eos_token_id {
            // The end token is the last of CLIP's vocabulary, hence the largest id.
            LEGACY_END => ids.argmax(-1, false),
            eos => ids.eq(eos).to_kind(Kind::Int).argmax(-1, false), // [B]
        };
        let size = states.size();
        let index = ends.view([-1, 1, 1]).expand([size[0], 1, size[2]], false);
        let pooled = states.gather(1, &index, false).squeeze_dim(1); // [B, D]
        self.project(&pooled, adapters)
    }

    /// `[.., D] -> [.., P]`; unchanged without a projection.
    pub fn project(&self, states: &Tensor, adapters: Option<AdapterSet>) -> Tensor {
        match &self.text_projection {
            Some(projection) => projection.forward(states, adapters),
            None => states.shallow_clone(),
        }
    }

    fn check(&self, ids: &Tensor) -> Result<()> {
        let most = self.config.max_length;
        if !matches!(ids.size()[..], [b, l] if b > 0 && l > 0 && l <= most) {
            let found = format!("{:?}", ids.size());
            return Err(Error::Shape { what: "a batch of token ids", expected: format!("[B, L], L <= {most}"), found });
        }
        let (low, high) = (ids.min().int64_value(&[]), ids.max().int64_value(&[]));
        if low < 0 || high >= self.config.vocab_size {
            return Err(Error::Invalid(format!(
                "the token id {} is outside the text encoder's vocabulary of {}: tokenizer and text encoder do not \
                 belong together",
                if low < 0 { low } else { high },
                self.config.vocab_size
            )));
        }
        Ok(())
    }

    /// Shallow clones of all parameters, sorted by name.
    pub fn named_parameters(&self) -> Vec<(String, Tensor)> {
        shallow(&self.parameters)
    }

    /// Writes config.json and the weights in `kind`, with the prefix `text_model.` of every published file.
    pub fn save(&self, dir: &Path, kind: Kind) -> Result<()> {
        save_component(dir, STEM, &self.config.file, kind, self.named_parameters())
    }
}

impl AdapterHost for ClipTextModel {
    fn adapters_mut(&mut self, visit: &mut dyn FnMut(&mut Adapters)) {
        self.blocks.iter_mut().for_each(|block| block.adapters_mut(visit));
        self.text_projection.iter_mut().for_each(|projection| visit(&mut projection.adapters));
    }

    fn new_adapter_set(&mut self) -> AdapterSet {
        self.adapter_sets += 1;
        AdapterSet(self.adapter_sets - 1)
    }

    fn device(&self) -> tch::Device {
        self.token_embedding.device()
    }
}

/// transformers from 5.6 on saves the encoder without its prefix. Older files hold position_ids, which is no weight.
fn with_prefix(name: &str) -> Option<String> {
    if name.ends_with("embeddings.position_ids") {
        return None;
    }
    let bare = ["embeddings.", "encoder.", "final_layer_norm."].iter().any(|start| name.starts_with(start));
    Some(if bare { format!("{PREFIX}.{name}") } else { name.to_string() })
}
