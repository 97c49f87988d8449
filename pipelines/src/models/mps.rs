//! Cross-attention of the Multi-dimensional Preference Score (arXiv 2405.14705): positions of a picture attend to those
//! of its prompt. The layers are parallel ones: attention and MLP read the same normalised input.

use super::layers::{LayerNorm, Linear};
use crate::error::{Error, Result};
use crate::weights::{Loader, WeightStore};
use tch::{Kind, Tensor};

const EPS: f64 = 1e-5;

/// Widths of the module, read from the shapes of its weights.
#[derive(Debug, Clone, Copy)]
pub struct CrossShape {
    /// Width P of pictures and texts.
    width: i64,
    layers: usize,
    /// Width of a head; keys and values have a single one.
    head: i64,
    /// Width inside the attention: heads times `head`.
    inner: i64,
    /// Width inside the MLP.
    wide: i64,
}

impl CrossShape {
    /// The shape of the module below `prefix`.
    ///
    /// # Errors
    /// A file without the module.
    pub fn of(store: &WeightStore, prefix: &str) -> Result<Self> {
        let size = |name: &str, at: usize| {
            let name = format!("{prefix}.layers.0.0.fn.{name}");
            store.shape(&name).and_then(|shape| shape.get(at).copied()).filter(|size| *size > 0).ok_or_else(|| {
                let hint = "use the weights of MPS, converted as in docs/scorers.md";
                Error::unusable(store.path(), format!("there is no matrix {name}"), hint)
            })
        };
        let layer = |i: &usize| store.shape(&format!("{prefix}.layers.{i}.0.fn.to_q.weight")).is_some();
        Ok(Self {
            width: size("to_q.weight", 1)?,
            layers: (0..).take_while(layer).count(),
            head: (size("to_kv.weight", 0)? / 2).max(1),
            inner: size("to_q.weight", 0)?,
            wide: size("ff.2.weight", 1)?,
        })
    }
}

/// Attention with one key and value head for all query heads. `q: [B, N, inner]`, `k`, `v: [B, M, head]`,
/// `mask: [B, N, M]`, added to the logits.
fn attend_to_one(q: &Tensor, k: &Tensor, v: &Tensor, head: i64, mask: Option<&Tensor>) -> Result<Tensor> {
    let size = q.size();
    let heads = size[2] / head;
    let q = q.view([size[0], size[1], heads, head]).transpose(1, 2); // [B, heads, N, head]
    let one = |x: &Tensor| x.unsqueeze(1).expand([size[0], heads, -1, head], false);
    let mask = mask.map(|mask| mask.unsqueeze(1));
    let attended = Tensor::f_scaled_dot_product_attention(&q, &one(k), &one(v), mask, 0.0, false, None, false)?;
    Ok(attended.transpose(1, 2).reshape([size[0], size[1], size[2]]))
}

/// `[.., 2 w] -> [.., w]`: the first half times the activated second.
fn swiglu(x: &Tensor) -> Tensor {
    let halves = x.chunk(2, -1);
    &halves[0] * halves[1].silu()
}

/// Rotates pairs (i, i + head / 2) of the last dimension by the angles `[N, head]`.
fn rotate(x: &Tensor, angles: &Tensor) -> Tensor {
    let halves = x.chunk(2, -1);
    x * angles.cos() + Tensor::cat(&[-&halves[1], halves[0].shallow_clone()], -1) * angles.sin()
}

/// Attention from pictures to texts.
#[derive(Debug)]
struct Cross {
    norm: LayerNorm,
    to_q: Linear,
    to_kv: Linear,
    to_out: Linear,
    ff: [Linear; 2],
}

impl Cross {
    fn load(from: &Loader, shape: CrossShape) -> Self {
        let CrossShape { width, head, inner, wide, .. } = shape;
        let linear = |name: &str, input: i64, output: i64| Linear::load(&from.sub(name), input, output, false);
        Self {
            norm: LayerNorm::load(&from.sub("norm"), width, EPS),
            to_q: linear("to_q", width, inner),
            to_kv: linear("to_kv", width, 2 * head),
            to_out: linear("to_out", inner, width),
            ff: [linear("ff.0", width, 2 * wide), linear("ff.2", wide, width)],
        }
    }

    /// `x: [B, N, P]`, `context: [B, M, P]`, `mask: [B, N, M]`, result `[B, N, P]`.
    fn forward(&self, x: &Tensor, context: &Tensor, mask: &Tensor, head: i64) -> Result<Tensor> {
        let normed = self.norm.forward(x);
        let kv = self.to_kv.forward(context, None).chunk(2, -1);
        let attended = attend_to_one(&self.to_q.forward(&normed, None), &kv[0], &kv[1], head, Some(mask))?;
        let ff = self.ff[1].forward(&swiglu(&self.ff[0].forward(&normed, None)), None);
        Ok(x + self.to_out.forward(&attended, None) + ff)
    }
}

/// Attention of a picture to itself, with rotary positions.
#[derive(Debug)]
struct Own {
    norm: LayerNorm,
    /// `[head / 2]`
    inv_freq: Tensor,
    fused: Linear,
    attn_out: Linear,
    ff_out: Linear,
}

impl Own {
    fn load(from: &Loader, shape: CrossShape) -> Self {
        let CrossShape { width, head, inner, wide, .. } = shape;
        let linear = |name: &str, input: i64, output: i64| Linear::load(&from.sub(name), input, output, false);
        Self {
            norm: LayerNorm::load(&from.sub("norm"), width, EPS),
            inv_freq: from.sub("rotary_emb").tensor("inv_freq", &[head / 2]),
            fused: linear("fused_attn_ff_proj", width, inner + 2 * head + 2 * wide),
            attn_out: linear("attn_out", inner, width),
            ff_out: linear("ff_out.1", wide, width),
        }
    }

    /// `[B, N, P] -> [B, N, P]`.
    fn forward(&self, x: &Tensor, shape: CrossShape) -> Result<Tensor> {
        let CrossShape { head, inner, wide, .. } = shape;
        let fused = self.fused.forward(&self.norm.forward(x), None);
        let parts = fused.f_split_with_sizes([inner, head, head, 2 * wide].as_slice(), -1)?;
        let size = x.size();
        let positions = Tensor::arange(size[1], (Kind::Float, x.device())).unsqueeze(1); // [N, 1]
        let angles = (positions * &self.inv_freq).repeat([1, 2]); // [N, head]
        let q = parts[0].view([size[0], size[1], inner / head, head]);
        let q = rotate(&q, &angles.unsqueeze(1)).view([size[0], size[1], inner]);
        let k = rotate(&parts[1], &angles);
        let attended = attend_to_one(&q, &k, &parts[2], head, None)?;
        Ok(x + self.attn_out.forward(&attended, None) + self.ff_out.forward(&swiglu(&parts[3]), None))
    }
}

/// The module: alternating attention to the text and to itself.
#[derive(Debug)]
pub struct CrossModel {
    shape: CrossShape,
    layers: Vec<(Cross, Own)>,
}

impl CrossModel {
    pub fn load(from: &Loader, shape: CrossShape) -> Self {
        let layer = |i: usize| {
            let part = |part: usize| from.sub(&format!("layers.{i}.{part}.fn"));
            (Cross::load(&part(0), shape), Own::load(&part(1), shape))
        };
        Self { shape, layers: (0..shape.layers).map(layer).collect() }
    }

    /// Positions of pictures `[B, N, P]` that have read texts `[B, M, P]`. `mask: [B, N, M]` is added to the logits of
    /// attention: 0 or minus infinity.
    ///
    /// # Errors
    /// Errors of libtorch.
    pub fn forward(&self, pictures: &Tensor, texts: &Tensor, mask: &Tensor) -> Result<Tensor> {
        self.layers.iter().try_fold(pictures.shallow_clone(), |x, (cross, own)| {
            own.forward(&cross.forward(&x, texts, mask, self.shape.head)?, self.shape)
        })
    }
}
