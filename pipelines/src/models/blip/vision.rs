//! BLIP's vision tower, a vision transformer (arXiv 2010.11929) with the names of timm.

use crate::error::{Error, Result};
use crate::models::layers::{LayerNorm, Linear, attend};
use crate::weights::{Loader, WeightStore};
use tch::Tensor;

const EPS: f64 = 1e-6;
/// Width of a head in every published tower.
const HEAD: i64 = 64;

/// Widths of the tower, read from the shapes of its weights.
#[derive(Debug, Clone, Copy)]
pub(super) struct VisionShape {
    pub width: i64,
    layers: i64,
    /// Width between the two layers of the MLP.
    wide: i64,
    /// Side of a patch in pixels.
    patch: i64,
    /// Patches in a picture.
    patches: i64,
}

impl VisionShape {
    /// The shape of the tower below `prefix`.
    ///
    /// # Errors
    /// A file without the tower, or one of other parts.
    pub fn of(store: &WeightStore, prefix: &str) -> Result<Self> {
        let shape = |name: &str| {
            let name = format!("{prefix}.{name}");
            let found = store.shape(&name).filter(|shape| shape.iter().all(|size| *size > 0));
            found.ok_or_else(|| unusable(store, format!("there is no tensor {name}")))
        };
        let (proj, positions) = (shape("patch_embed.proj.weight")?, shape("pos_embed")?);
        let (&[width, _, patch, _], &[_, places, _]) = (&proj[..], &positions[..]) else {
            return Err(unusable(store, format!("{prefix} has patches {proj:?} and positions {positions:?}")));
        };
        let patches = places - 1;
        if width % HEAD != 0 || patches.isqrt().pow(2) != patches {
            let problem = format!("a tower of width {width} with {patches} patches is none of BLIP's");
            return Err(unusable(store, problem));
        }
        let is_there = |i: &i64| store.shape(&format!("{prefix}.blocks.{i}.norm1.weight")).is_some();
        let wide = shape("blocks.0.mlp.fc1.weight")?.first().copied().unwrap_or_default();
        Ok(Self { width, layers: (0..).take_while(is_there).count() as i64, wide, patch, patches })
    }

    /// Side of a picture in pixels.
    pub fn image_size(&self) -> i64 {
        self.patches.isqrt() * self.patch
    }
}

fn unusable(store: &WeightStore, problem: String) -> Error {
    Error::unusable(store.path(), problem, "use the weights of ImageReward, converted as in docs/scorers.md")
}

/// Pre-norm attention and MLP, each added to its input.
#[derive(Debug)]
struct Block {
    heads: i64,
    norm1: LayerNorm,
    qkv: Linear,
    proj: Linear,
    norm2: LayerNorm,
    mlp: [Linear; 2],
}

impl Block {
    fn load(from: &Loader, shape: VisionShape) -> Self {
        let VisionShape { width, wide, .. } = shape;
        Self {
            heads: width / HEAD,
            norm1: LayerNorm::load(&from.sub("norm1"), width, EPS),
            qkv: Linear::load(&from.sub("attn.qkv"), width, 3 * width, true),
            proj: Linear::load(&from.sub("attn.proj"), width, width, true),
            norm2: LayerNorm::load(&from.sub("norm2"), width, EPS),
            mlp: [
                Linear::load(&from.sub("mlp.fc1"), width, wide, true),
                Linear::load(&from.sub("mlp.fc2"), wide, width, true),
            ],
        }
    }

    /// `[B, N, D] -> [B, N, D]`.
    fn forward(&self, x: &Tensor) -> Tensor {
        let qkv = self.qkv.forward(&self.norm1.forward(x), None).chunk(3, -1);
        let h = attend(&qkv[0].contiguous(), &qkv[1].contiguous(), &qkv[2].contiguous(), self.heads, false);
        let x = x + self.proj.forward(&h, None);
        let h = self.mlp[0].forward(&self.norm2.forward(&x), None).gelu("none");
        x + self.mlp[1].forward(&h, None)
    }
}

/// The tower.
#[derive(Debug)]
pub(super) struct Vision {
    shape: VisionShape,
    /// `[1, 1, D]`
    cls_token: Tensor,
    /// `[1, 1 + patches, D]`
    pos_embed: Tensor,
    /// `[D, 3, p, p]`
    proj: Tensor,
    /// `[D]`
    proj_bias: Tensor,
    blocks: Vec<Block>,
    norm: LayerNorm,
}

impl Vision {
    pub fn load(from: &Loader, shape: VisionShape) -> Self {
        let VisionShape { width, patch, patches, layers, .. } = shape;
        let proj = from.sub("patch_embed.proj");
        Self {
            shape,
            cls_token: from.tensor("cls_token", &[1, 1, width]),
            pos_embed: from.tensor("pos_embed", &[1, patches + 1, width]),
            proj: proj.tensor("weight", &[width, 3, patch, patch]),
            proj_bias: proj.tensor("bias", &[width]),
            blocks: (0..layers).map(|i| Block::load(&from.sub(&format!("blocks.{i}")), shape)).collect(),
            norm: LayerNorm::load(&from.sub("norm"), width, EPS),
        }
    }

    /// Every position of pictures `[B, 3, S, S]`, class token first: `[B, 1 + patches, D]`.
    ///
    /// # Errors
    /// Pixels of another shape.
    pub fn forward(&self, pixels: &Tensor) -> Result<Tensor> {
        let (side, size) = (self.shape.image_size(), pixels.size());
        if !matches!(size[..], [batch, 3, height, width] if batch > 0 && height == side && width == side) {
            let (expected, found) = (format!("[B, 3, {side}, {side}]"), format!("{size:?}"));
            return Err(Error::Shape { what: "a batch of pictures", expected, found });
        }
        let stride = [self.shape.patch; 2];
        let patches = pixels.f_conv2d(&self.proj, Some(&self.proj_bias), stride, [0, 0], [1, 1], 1)?;
        let patches = patches.flatten(2, 3).transpose(1, 2); // [B, patches, D]
        let class = self.cls_token.expand([size[0], 1, self.shape.width], false);
        let mut x = Tensor::cat(&[class, patches], 1) + &self.pos_embed;
        for block in &self.blocks {
            x = block.forward(&x);
        }
        Ok(self.norm.forward(&x))
    }
}
