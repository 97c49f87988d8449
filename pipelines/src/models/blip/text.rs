//! BLIP's text tower, a BERT (arXiv 1810.04805) whose layers also attend to a picture.

use crate::error::Result;
use crate::models::config::ConfigFile;
use crate::models::layers::{LayerNorm, Linear, attend};
use crate::weights::Loader;
use serde_json::json;
use tch::Tensor;

/// The shape of the tower. Values that are not implemented are refused on reading.
#[derive(Debug, Clone, Copy)]
pub(super) struct TextShape {
    pub width: i64,
    layers: i64,
    heads: i64,
    /// Width between the two layers of the MLP.
    wide: i64,
    vocabulary: i64,
    /// Longest text in tokens.
    pub positions: i64,
    eps: f64,
}

impl TextShape {
    /// Parses med_config.json.
    pub fn from_file(file: &ConfigFile) -> Result<Self> {
        file.only("hidden_act", &json!("gelu"))?;
        file.only("add_cross_attention", &json!(true))?;
        let width = file.size("hidden_size", Some(768))?;
        let heads = file.size("num_attention_heads", Some(12))?;
        if width % heads != 0 {
            return Err(file.conflict("num_attention_heads", format!("a divisor of hidden_size, {width}")));
        }
        Ok(Self {
            width,
            layers: file.size("num_hidden_layers", Some(12))?,
            heads,
            wide: file.size("intermediate_size", Some(3072))?,
            vocabulary: file.size("vocab_size", Some(30524))?,
            positions: file.size("max_position_embeddings", Some(512))?,
            eps: file.number("layer_norm_eps", 1e-12)?,
        })
    }
}

/// Attention with its output layer, added to the input and normalised.
#[derive(Debug)]
struct Attention {
    heads: i64,
    query: Linear,
    key: Linear,
    value: Linear,
    dense: Linear,
    norm: LayerNorm,
}

impl Attention {
    /// `from_width`: that of the positions attended to.
    fn load(from: &Loader, shape: TextShape, from_width: i64) -> Self {
        let TextShape { width, heads, eps, .. } = shape;
        let linear = |name: &str, input: i64| Linear::load(&from.sub(name), input, width, true);
        Self {
            heads,
            query: linear("self.query", width),
            key: linear("self.key", from_width),
            value: linear("self.value", from_width),
            dense: linear("output.dense", width),
            norm: LayerNorm::load(&from.sub("output.LayerNorm"), width, eps),
        }
    }

    /// `x: [B, L, D]` attends to `to: [B, M, D']`; result `[B, L, D]`.
    fn forward(&self, x: &Tensor, to: &Tensor) -> Tensor {
        let (q, k, v) = (self.query.forward(x, None), self.key.forward(to, None), self.value.forward(to, None));
        self.norm.forward(&(self.dense.forward(&attend(&q, &k, &v, self.heads, false), None) + x))
    }
}

#[derive(Debug)]
struct Layer {
    attention: Attention,
    crossattention: Attention,
    intermediate: Linear,
    output: Linear,
    norm: LayerNorm,
}

impl Layer {
    fn load(from: &Loader, shape: TextShape, picture_width: i64) -> Self {
        let TextShape { width, wide, eps, .. } = shape;
        Self {
            attention: Attention::load(&from.sub("attention"), shape, width),
            crossattention: Attention::load(&from.sub("crossattention"), shape, picture_width),
            intermediate: Linear::load(&from.sub("intermediate.dense"), width, wide, true),
            output: Linear::load(&from.sub("output.dense"), wide, width, true),
            norm: LayerNorm::load(&from.sub("output.LayerNorm"), width, eps),
        }
    }

    fn forward(&self, x: &Tensor, picture: &Tensor) -> Tensor {
        let x = self.crossattention.forward(&self.attention.forward(x, x), picture);
        let h = self.intermediate.forward(&x, None).gelu("none");
        self.norm.forward(&(self.output.forward(&h, None) + x))
    }
}

/// The tower.
#[derive(Debug)]
pub(super) struct Text {
    shape: TextShape,
    /// `[V, D]`
    words: Tensor,
    /// `[positions, D]`
    positions: Tensor,
    norm: LayerNorm,
    layers: Vec<Layer>,
}

impl Text {
    pub fn load(from: &Loader, shape: TextShape, picture_width: i64) -> Self {
        let TextShape { width, layers, vocabulary, positions, eps, .. } = shape;
        let embeddings = from.sub("embeddings");
        let layer = |i: i64| Layer::load(&from.sub(&format!("encoder.layer.{i}")), shape, picture_width);
        Self {
            shape,
            words: embeddings.tensor("word_embeddings.weight", &[vocabulary, width]),
            positions: embeddings.tensor("position_embeddings.weight", &[positions, width]),
            norm: LayerNorm::load(&embeddings.sub("LayerNorm"), width, eps),
            layers: (0..layers).map(layer).collect(),
        }
    }

    pub fn shape(&self) -> TextShape {
        self.shape
    }

    /// The first position `[B, D]` of texts `[B, L]` int64 that read pictures `[B, N, D']`. Texts have no padding: the
    /// published code masks it, so that it counts nothing.
    ///
    /// # Errors
    /// Token ids outside the vocabulary; texts that are too long.
    pub fn forward(&self, ids: &Tensor, pictures: &Tensor) -> Result<Tensor> {
        let length = ids.size().get(1).copied().unwrap_or(0);
        let words = Tensor::f_embedding(&self.words, ids, -1, false, false)?;
        let mut x = self.norm.forward(&(words + self.positions.f_narrow(0, 0, length)?));
        for layer in &self.layers {
            x = layer.forward(&x, pictures);
        }
        Ok(x.select(1, 0))
    }
}
