//! AdamW with moments in 8 bits, block by block (arXiv 2110.02861), in the dynamic map of bitsandbytes.
//!
//! A moment is kept as blocks of 256 values. A block has one float32, the largest magnitude, and per value the number of
//! the nearest entry of a map of 256 values in [-1, 1] (first moment) or [0, 1] (second moment). A step reads a block,
//! updates it in the type of the weights as AdamW does, steps with the unrounded moments and stores them again. Tensors
//! below 4096 values keep moments in the type of the weights.
//!
//! Unlike bitsandbytes a second moment above 0 is never stored as 0: the next step would be the first moment over eps.

use super::adamw::AdamW;
use super::rule::Rule;
use anyhow::Result;
use tch::{Device, Kind, Tensor};

/// Values of a block.
const BLOCK: i64 = 256;
/// Tensors with fewer values are not rounded.
const LEAST: usize = 4096;
/// Blocks that are updated together: bounds the memory of a step to some tens of MiB.
const TOGETHER: i64 = 4096;

/// Whether the moments of a tensor with so many values are kept in 8 bits.
fn is_rounded(numel: usize) -> bool {
    numel >= LEAST
}

/// Bytes of both moments of a tensor with `numel` values of `width` bytes.
pub fn bytes(numel: usize, width: usize) -> usize {
    let blocks = numel.div_ceil(BLOCK as usize);
    if is_rounded(numel) { 2 * blocks * (BLOCK as usize + size_of::<f32>()) } else { 2 * numel * width }
}

/// 256 values, ascending: a fraction of i bits (with a sign) or i + 1 bits (without) at 10^(i - 6), for i = 0 .. 6; 0; 1.
pub fn map(signed: bool) -> Vec<f64> {
    let mut values = vec![0.0, 1.0];
    for i in 0..7 {
        let fractions = 1 << if signed { i } else { i + 1 };
        let scale = 10f64.powi(i - 6);
        for k in 0..fractions {
            // Middle of the k-th of `fractions` equal parts of [0.1, 1].
            let value = scale * (0.1 + 0.9 * (f64::from(k) + 0.5) / f64::from(fractions));
            values.push(value);
            if signed {
                values.push(-value);
            }
        }
    }
    values.sort_by(f64::total_cmp);
    values
}

/// A map on the device of the weights.
struct Map {
    /// `[256]`
    values: Tensor,
    /// `[255]`, middles between neighbours.
    middles: Tensor,
}

impl Map {
    fn new(signed: bool, kind: Kind, device: Device) -> Self {
        let values = map(signed);
        let middles: Vec<f64> = values.windows(2).map(|pair| (pair[0] + pair[1]) / 2.0).collect();
        let place = |values: &[f64]| Tensor::from_slice(values).to_kind(kind).to_device(device);
        Self { values: place(&values), middles: place(&middles) }
    }
}

/// A moment in 8 bits.
struct Rounded {
    /// `[blocks, 256]` uint8; the last block is filled up with the number of 0.
    codes: Tensor,
    /// `[blocks]` float32: the largest magnitude of a block.
    largest: Tensor,
}

impl Rounded {
    /// Zeros.
    fn new(numel: usize, map: &Map, device: Device) -> Self {
        let blocks = (numel as i64 + BLOCK - 1) / BLOCK;
        let zero = map.values.eq(0.0).to_kind(Kind::Uint8).argmax(0, false).int64_value(&[]);
        Self {
            codes: Tensor::full([blocks, BLOCK], zero, (Kind::Uint8, device)),
            largest: Tensor::zeros([blocks], (Kind::Float, device)),
        }
    }

    /// Values of `n` blocks from `first`, `[n, 256]`.
    fn read(&self, first: i64, n: i64, map: &Map) -> Tensor {
        let codes = self.codes.narrow(0, first, n).to_kind(Kind::Int).flatten(0, -1);
        let largest = self.largest.narrow(0, first, n).to_kind(map.values.kind()).unsqueeze(1);
        map.values.index_select(0, &codes).view([n, BLOCK]) * largest
    }

    /// Rounds `values` `[n, 256]` into the blocks from `first`. `lifted`: values above 0 do not become 0.
    fn write(&self, first: i64, values: &Tensor, map: &Map, lifted: bool) {
        let n = values.size()[0];
        let largest = values.abs().amax([1i64].as_slice(), true);
        // A block of zeros has no scale.
        let scaled = values / largest.where_self(&largest.gt(0.0), &largest.ones_like());
        let mut codes = scaled.bucketize(&map.middles, true, false);
        if lifted {
            codes = codes.maximum(&values.gt(0.0).to_kind(Kind::Int));
        }
        self.codes.narrow(0, first, n).copy_(&codes);
        self.largest.narrow(0, first, n).copy_(&largest.squeeze_dim(1));
    }
}

/// Both moments of a rounded tensor.
struct Moments {
    exp_avg: Rounded,
    exp_avg_sq: Rounded,
    /// float32 scalar on the CPU: steps taken.
    step: Tensor,
}

/// State of a parameter.
enum Slot {
    Rounded(Moments),
    /// Its place among the parameters of the AdamW of small tensors.
    Small(usize),
}

/// AdamW with block-wise 8-bit moments.
pub struct AdamW8bit {
    slots: Vec<Slot>,
    small: AdamW,
    signed: Map,
    unsigned: Map,
    betas: (f64, f64),
    eps: f64,
    weight_decay: f64,
}

impl AdamW8bit {
    /// Zero moments for `params`, which are of one type and on one device.
    pub fn new(params: &[Tensor], betas: (f64, f64), eps: f64, weight_decay: f64) -> Self {
        let (kind, device) = params.first().map_or((Kind::Float, Device::Cpu), |p| (p.kind(), p.device()));
        let (signed, unsigned) = (Map::new(true, kind, device), Map::new(false, kind, device));
        let mut small = Vec::new();
        let slot = |p: &Tensor| {
            if !is_rounded(p.numel()) {
                small.push(p.shallow_clone());
                return Slot::Small(small.len() - 1);
            }
            let rounded = |map: &Map| Rounded::new(p.numel(), map, device);
            let step = Tensor::zeros([], (Kind::Float, Device::Cpu));
            Slot::Rounded(Moments { exp_avg: rounded(&signed), exp_avg_sq: rounded(&unsigned), step })
        };
        let slots = params.iter().map(slot).collect();
        let small = AdamW::new(&small, betas, eps, weight_decay);
        Self { slots, small, signed, unsigned, betas, eps, weight_decay }
    }

    /// A step of one rounded tensor.
    fn update(&self, moments: &Moments, param: &Tensor, grad: &Tensor, lr: f64) -> Result<()> {
        let (beta1, beta2) = self.betas;
        let _ = moments.step.shallow_clone().g_add_scalar_(1);
        let step = moments.step.double_value(&[]);
        let (bias1, bias2) = (1.0 - beta1.powf(step), 1.0 - beta2.powf(step));
        let (param, grad) = (param.f_view([-1])?, grad.f_contiguous()?.f_view([-1])?);
        let (numel, blocks) = (param.numel() as i64, moments.exp_avg.codes.size()[0]);
        for first in (0..blocks).step_by(TOGETHER as usize) {
            let n = TOGETHER.min(blocks - first);
            let (start, end) = (first * BLOCK, numel.min((first + n) * BLOCK));
            let part = grad.narrow(0, start, end - start).f_pad([0, n * BLOCK - (end - start)], "constant", 0.0)?;
            let part = part.f_view([n, BLOCK])?;
            let exp_avg = moments.exp_avg.read(first, n, &self.signed) * beta1 + &part * (1.0 - beta1);
            let exp_avg_sq = moments.exp_avg_sq.read(first, n, &self.unsigned) * beta2 + part.square() * (1.0 - beta2);
            let denominator = exp_avg_sq.sqrt() / bias2.sqrt() + self.eps;
            let update = (&exp_avg / denominator).f_view([-1])?.narrow(0, 0, end - start);
            let mut weights = param.narrow(0, start, end - start);
            let _ = weights.g_mul_scalar_(1.0 - lr * self.weight_decay);
            let _ = weights.g_sub_(&(update * (lr / bias1)));
            moments.exp_avg.write(first, &exp_avg, &self.signed, false);
            moments.exp_avg_sq.write(first, &exp_avg_sq, &self.unsigned, true);
        }
        Ok(())
    }
}

impl Rule for AdamW8bit {
    fn step(&mut self, params: &[Tensor], grads: &[Tensor], lr: f64) -> Result<()> {
        let (mut small_params, mut small_grads) = (Vec::new(), Vec::new());
        for ((slot, param), grad) in self.slots.iter().zip(params).zip(grads) {
            match slot {
                Slot::Rounded(moments) => self.update(moments, param, grad, lr)?,
                Slot::Small(_) => {
                    small_params.push(param.shallow_clone());
                    small_grads.push(grad.shallow_clone());
                }
            }
        }
        if small_params.is_empty() { Ok(()) } else { self.small.step(&small_params, &small_grads, lr) }
    }

    fn state(&self, i: usize) -> Vec<(&'static str, Tensor)> {
        let moments = match &self.slots[i] {
            Slot::Small(place) => return self.small.state(*place),
            Slot::Rounded(moments) => moments,
        };
        let tensors = [
            ("exp_avg", &moments.exp_avg.codes),
            ("exp_avg_absmax", &moments.exp_avg.largest),
            ("exp_avg_sq", &moments.exp_avg_sq.codes),
            ("exp_avg_sq_absmax", &moments.exp_avg_sq.largest),
            ("step", &moments.step),
        ];
        tensors.into_iter().map(|(name, tensor)| (name, tensor.shallow_clone())).collect()
    }
}
