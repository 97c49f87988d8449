//! Named random streams: every draw of a run is reproducible from its seed, its stream and its ids.
//!
//! A draw belongs to `key(seed, stream, ids)`, the seed of its own generator. It depends neither on earlier draws nor
//! on the number of workers or the size of a micro-batch. The Python equivalent:
//!
//! ```python
//! text = ":".join(["diffpref", str(seed), stream, *map(str, ids)])
//! key = int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "little") & (2**63 - 1)
//! generator = torch.Generator("cpu").manual_seed(key)
//! ```
//!
//! `tests/golden/data_draws.py` computes the expected values of the tests.

use super::timesteps::TimestepLaw;
use anyhow::{Context, Result};
use diffpref_native::Generator;
use pipelines::LevelRange;
use sha2::{Digest, Sha256};
use std::fmt::Display;
use tch::Tensor;

/// Seed of streams that do not depend on the run: the validation split and the validation noise.
const FIXED_SEED: u64 = 0;

/// The 63-bit key of a draw: the first 8 bytes (little endian, top bit cleared) of the SHA-256 of
/// `diffpref:SEED:STREAM:ID:ID..`.
pub fn key(seed: u64, stream: &str, ids: &[&dyn Display]) -> u64 {
    let mut text = format!("diffpref:{seed}:{stream}");
    for id in ids {
        text.push(':');
        text.push_str(&id.to_string());
    }
    let digest = Sha256::digest(text.as_bytes());
    let mut first = [0u8; 8];
    first.copy_from_slice(&digest[..8]);
    u64::from_le_bytes(first) & (u64::MAX >> 1)
}

/// True if `prompt` belongs to the validation set. The choice depends on the prompt alone: a held-out prompt is held
/// out in every run, whatever its seed and its other rows.
pub fn held_out(prompt: &str, fraction: f64) -> bool {
    // fraction x 2^63 is exact in float64, and an integer is below a real exactly when it is below its ceiling.
    let threshold = (fraction.clamp(0.0, 1.0) * 2f64.powi(63)).ceil() as u64;
    key(FIXED_SEED, "split", &[&prompt]) < threshold
}

/// The random streams of one run. `d` is the number of the draw of an item, see [`Draws::draw_of_epoch`]. `k` is the
/// place of an image in its item: 0 the winner and 1 the loser of a pair, as trained.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Draws {
    /// `[train] seed`
    pub seed: u64,
    /// `[data] draws_per_pair`: 0 makes new draws every epoch, K repeats those of epoch e mod K in epoch e.
    pub draws_per_pair: u64,
    /// Noise levels of the model's process.
    pub range: LevelRange,
}

impl Draws {
    fn generator(&self, stream: &str, ids: &[&dyn Display]) -> Generator {
        Generator::cpu(key(self.seed, stream, ids))
    }

    /// Id `d` of an item's draws: the epoch, or the epoch modulo `draws_per_pair`.
    pub fn draw_of_epoch(&self, epoch: u64) -> u64 {
        if self.draws_per_pair == 0 { epoch } else { epoch % self.draws_per_pair }
    }

    /// Stream `order`, id `epoch`: the order of `n` items in an epoch, `torch.randperm(n)`.
    pub fn order(&self, epoch: u64, n: usize) -> Result<Vec<i64>> {
        let n = i64::try_from(n).context("more items than an order can number")?;
        Ok(self.generator("order", &[&epoch]).randperm(n)?)
    }

    /// Stream `order`, ids `class, pass`: the order of the `n` labelled images of a class in one pass over them.
    pub fn class_order(&self, class: &str, pass: u64, n: usize) -> Result<Vec<i64>> {
        let n = i64::try_from(n).context("more items than an order can number")?;
        Ok(self.generator("order", &[&class, &pass]).randperm(n)?)
    }

    /// Stream `slot`, id `position`: `torch.rand(1) < share` makes the position a desirable image.
    pub fn slot(&self, position: u64, share: f64) -> bool {
        below(self.generator("slot", &[&position]), share)
    }

    /// Stream `timestep`, ids `d, id`: `torch.randint(0, T, (1,))` for the uniform law over all timesteps. Other laws
    /// transform `torch.rand(1, dtype=torch.float64)`.
    pub fn level(&self, d: u64, id: &str, law: &TimestepLaw) -> Result<f64> {
        let mut generator = self.generator("timestep", &[&d, &id]);
        match *law == TimestepLaw::all(self.range) {
            true => Ok(self.range.draw(&mut generator)?),
            false => Ok(law.at(generator.rand_f64(), self.range)),
        }
    }

    /// Stream `noise`, ids `d, id`: `torch.randn(shape)`, shared by all images of an item.
    pub fn noise(&self, d: u64, id: &str, shape: &[i64]) -> Tensor {
        self.generator("noise", &[&d, &id]).randn(shape)
    }

    /// Stream `noise`, ids `d, k, id`: `torch.randn(shape)` per image.
    pub fn image_noise(&self, d: u64, k: usize, id: &str, shape: &[i64]) -> Tensor {
        self.generator("noise", &[&d, &k, &id]).randn(shape)
    }

    /// Stream `inversion`, ids `d, k, id`: `torch.randn(m, *shape)` `[m, C, h, w]`, noise of the m steps of an
    /// inversion with eta above 0.
    pub fn inversion(&self, d: u64, k: usize, id: &str, m: usize, shape: &[i64]) -> Tensor {
        let shape: Vec<i64> = std::iter::once(m as i64).chain(shape.iter().copied()).collect();
        self.generator("inversion", &[&d, &k, &id]).randn(&shape)
    }

    /// Stream `rollout`, ids `iteration, j, prompt`: `torch.randn(1 + steps, *shape)` `[1 + steps, C, h, w]` of trajectory j
    /// of a prompt: x_T, then the noise of each step.
    pub fn rollout(&self, iteration: u64, j: usize, prompt: usize, steps: usize, shape: &[i64]) -> Tensor {
        let shape: Vec<i64> = std::iter::once(1 + steps as i64).chain(shape.iter().copied()).collect();
        self.generator("rollout", &[&iteration, &j, &prompt]).randn(&shape)
    }

    /// Stream `held-out`, ids `j, prompt`: trajectory j of a held-out prompt, as in [`rollout`](Self::rollout), equal
    /// at every validation.
    pub fn held_out(&self, j: usize, prompt: usize, steps: usize, shape: &[i64]) -> Tensor {
        let shape: Vec<i64> = std::iter::once(1 + steps as i64).chain(shape.iter().copied()).collect();
        self.generator("held-out", &[&j, &prompt]).randn(&shape)
    }

    /// Stream `candidate`, ids `iteration, step, prompt`: `torch.randn(k, *shape)` `[k, C, h, w]`, noise of the
    /// candidates of one step of all trajectories of a prompt, trajectory by trajectory.
    pub fn candidates(&self, iteration: u64, step: usize, prompt: usize, k: usize, shape: &[i64]) -> Tensor {
        let shape: Vec<i64> = std::iter::once(k as i64).chain(shape.iter().copied()).collect();
        self.generator("candidate", &[&iteration, &step, &prompt]).randn(&shape)
    }

    /// Stream `choose`, ids `iteration, what, ..`: every other choice of a method that samples while it trains.
    pub fn choose(&self, iteration: u64, what: &str, ids: &[usize]) -> Generator {
        let ids: Vec<&dyn Display> = ids.iter().map(|id| id as &dyn Display).collect();
        let first: [&dyn Display; 2] = [&iteration, &what];
        self.generator("choose", &[&first[..], &ids[..]].concat())
    }

    /// Stream `choose`, ids `d, what, id`: a choice for one item.
    pub fn choose_for(&self, d: u64, what: &str, id: &str) -> Generator {
        self.generator("choose", &[&d, &what, &id])
    }

    /// Stream `vae`, ids `d, k, id`: `torch.randn(shape)`, the z of a posterior sample mean + std z.
    pub fn vae(&self, d: u64, k: usize, id: &str, shape: &[i64]) -> Tensor {
        self.generator("vae", &[&d, &k, &id]).randn(shape)
    }

    /// Stream `flip`, ids `d, k, id`: `torch.rand(1) < probability`, compared in float32 as torch compares.
    pub fn flip(&self, d: u64, k: usize, id: &str, probability: f64) -> bool {
        below(self.generator("flip", &[&d, &k, &id]), probability)
    }

    /// Stream `crop`, ids `d, k, id`: index of one of `crops` crops, `torch.randint(0, crops, (1,))`.
    pub fn crop(&self, d: u64, k: usize, id: &str, crops: i64) -> Result<i64> {
        Ok(self.generator("crop", &[&d, &k, &id]).randint(crops)?)
    }

    /// Stream `dropout`, ids `d, id`: `torch.rand(1) < probability` replaces the prompt of the whole item by "".
    pub fn dropout(&self, d: u64, id: &str, probability: f64) -> bool {
        below(self.generator("dropout", &[&d, &id]), probability)
    }

    /// Stream `lora`, id `name`: `torch.randn(rank, inputs) / rank` `[rank, inputs]`, the "gaussian" start of lora_A.
    /// `name` is the module's name as in the file, with `unet.` and without `.lora_A.weight`.
    pub fn lora(&self, name: &str, rank: i64, inputs: i64) -> Tensor {
        self.generator("lora", &[&name]).randn(&[rank, inputs]) / rank as f64
    }

    /// Stream `val_noise` with seed 0, ids `j, id`: noise of validation draw `j`, equal in every run.
    pub fn val_noise(&self, j: u64, id: &str, shape: &[i64]) -> Tensor {
        Generator::cpu(key(FIXED_SEED, "val_noise", &[&j, &id])).randn(shape)
    }

    /// The level of validation draw `j` of `draws`: the middle of the j-th of `draws` equal parts of the range.
    pub fn val_level(&self, j: u64, draws: u64) -> f64 {
        self.range.middle(j, draws)
    }
}

/// torch compares a float32 tensor with a Python number in float32: 0.1 means its nearest float32.
fn below(mut generator: Generator, probability: f64) -> bool {
    (generator.rand() as f32) < probability as f32
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_prompts_are_held_out_at_fraction_one_and_none_at_zero() {
        assert!((0..50).all(|i| held_out(&format!("prompt {i}"), 1.0)));
        assert!((0..50).all(|i| !held_out(&format!("prompt {i}"), 0.0)));
    }

    #[test]
    fn draws_per_pair_repeats_the_draws_of_earlier_epochs() {
        let draws = Draws { seed: 0, draws_per_pair: 3, range: LevelRange::Steps(1000) };
        assert_eq!([0, 1, 2, 3, 4].map(|e| draws.draw_of_epoch(e)), [0, 1, 2, 0, 1]);
        assert_eq!(Draws { draws_per_pair: 0, ..draws }.draw_of_epoch(7), 7);
    }

    #[test]
    fn validation_timesteps_lie_in_the_middle_of_equal_parts() {
        let draws = Draws { seed: 9, draws_per_pair: 0, range: LevelRange::Steps(1000) };
        assert_eq!([0, 1, 2, 3].map(|j| draws.val_level(j, 4)), [125.0, 375.0, 625.0, 875.0]);
        assert_eq!([0, 1, 2].map(|j| draws.val_level(j, 3)), [166.0, 500.0, 833.0]);
    }
}
