//! MobileNet v1 as Keras builds it (arXiv 1704.04861), with a linear head.

use super::layers::Linear;
use crate::error::Result;
use crate::weights::Loader;
use tch::{Kind, Tensor};

/// epsilon of Keras's batch normalisation.
const EPS: f64 = 1e-3;
/// Channels of the first convolution.
const FIRST: i64 = 32;
/// Output channels and stride of every depthwise separable block.
const BLOCKS: [(i64, i64); 13] = [
    (64, 1),
    (128, 2),
    (128, 1),
    (256, 2),
    (256, 1),
    (512, 2),
    (512, 1),
    (512, 1),
    (512, 1),
    (512, 1),
    (512, 1),
    (1024, 2),
    (1024, 1),
];

/// Convolution without bias, batch normalisation with running statistics, ReLU6.
#[derive(Debug)]
struct Convolution {
    /// `[out, in / groups, k, k]`
    weight: Tensor,
    /// Per channel: weight, bias, running mean, running variance.
    norm: [Tensor; 4],
    stride: i64,
    groups: i64,
}

impl Convolution {
    fn load(from: &Loader, name: &str, norm: &str, shape: [i64; 4], stride: i64, groups: i64) -> Self {
        let of = from.sub(norm);
        let norm = ["weight", "bias", "running_mean", "running_var"].map(|part| of.tensor(part, &[shape[0]]));
        Self { weight: from.sub(name).tensor("weight", &shape), norm, stride, groups }
    }

    fn forward(&self, x: &Tensor) -> Result<Tensor> {
        let side = self.weight.size()[3];
        // Keras pads a strided convolution to the right and below only.
        let (padded, padding) = match (side, self.stride) {
            (1, _) => (x.shallow_clone(), 0),
            (_, 1) => (x.shallow_clone(), side / 2),
            (_, _) => (x.f_constant_pad_nd([0, 1, 0, 1])?, 0),
        };
        let (stride, padding) = ([self.stride; 2], [padding; 2]);
        let x = padded.f_conv2d::<Tensor>(&self.weight, None, stride, padding, [1, 1], self.groups)?;
        let [weight, bias, mean, variance] = &self.norm;
        let x = x.f_batch_norm(Some(weight), Some(bias), Some(mean), Some(variance), false, 0.0, EPS, false)?;
        Ok(x.f_relu6()?)
    }
}

/// The network. Parameter names: `conv1`, `bn1`, `dwN`, `dwN_bn`, `pwN`, `pwN_bn` (N from 1 to 13), `head`.
#[derive(Debug)]
pub struct MobileNet {
    convolutions: Vec<Convolution>,
    head: Linear,
}

impl MobileNet {
    /// Reads the weights of a network with `outputs` outputs.
    pub fn load(from: &Loader, outputs: i64) -> Self {
        let mut convolutions = vec![Convolution::load(from, "conv1", "bn1", [FIRST, 3, 3, 3], 2, 1)];
        let mut channels = FIRST;
        for (i, (out, stride)) in BLOCKS.into_iter().enumerate() {
            let n = i + 1;
            let depthwise = (format!("dw{n}"), format!("dw{n}_bn"), [channels, 1, 3, 3]);
            let pointwise = (format!("pw{n}"), format!("pw{n}_bn"), [out, channels, 1, 1]);
            convolutions.push(Convolution::load(from, &depthwise.0, &depthwise.1, depthwise.2, stride, channels));
            convolutions.push(Convolution::load(from, &pointwise.0, &pointwise.1, pointwise.2, 1, 1));
            channels = out;
        }
        Self { convolutions, head: Linear::load(&from.sub("head"), channels, outputs, true) }
    }

    /// Logits `[B, outputs]` of pictures `[B, 3, H, W]` in [-1, 1].
    ///
    /// # Errors
    /// Errors of libtorch.
    pub fn forward(&self, pictures: &Tensor) -> Result<Tensor> {
        let mut x = pictures.shallow_clone();
        for convolution in &self.convolutions {
            x = convolution.forward(&x)?;
        }
        let pooled = x.f_mean_dim([2, 3].as_slice(), false, None::<Kind>)?;
        Ok(self.head.forward(&pooled, None))
    }
}
