//! The noise schedule of discrete diffusion, for training.

use super::config::{BetaSchedule, PredictionType, SchedulerConfig};
use tch::{Device, Kind, Tensor};

/// The discrete forward process x_t = sqrt(abar_t) x_0 + sqrt(1 - abar_t) noise (docs/methods.md 0.1).
#[derive(Debug)]
pub struct NoiseSchedule {
    config: SchedulerConfig,
    alphas_cumprod: Tensor,
}

impl NoiseSchedule {
    /// The schedule of a scheduler_config.json, by diffusers' operations in float32, with the same bits.
    pub fn new(config: &SchedulerConfig) -> Self {
        let mut betas = betas(config);
        if config.rescale_betas_zero_snr {
            betas = rescale_zero_terminal_snr(&betas);
        }
        // tch computes 1 - x as -(x - 1): -0 for x = 1, and 1 / SNR of the last level would be -infinity.
        let alphas_cumprod = (betas.neg() + 1f64).cumprod(0, None::<Kind>);
        Self { config: config.clone(), alphas_cumprod }
    }

    /// abar_t, `[T]` float32, falling from nearly 1 to nearly 0.
    pub fn alphas_cumprod(&self) -> &Tensor {
        &self.alphas_cumprod
    }

    /// T: timesteps are 0 .. T - 1.
    pub fn num_train_timesteps(&self) -> i64 {
        self.alphas_cumprod.size()[0]
    }

    /// The prediction type of the network.
    pub fn prediction_type(&self) -> PredictionType {
        self.config.prediction_type
    }

    /// The scheduler_config.json of the schedule.
    pub fn config(&self) -> &SchedulerConfig {
        &self.config
    }

    /// The schedule with its table on `device`: saves one copy per call for latents on that device.
    pub fn to_device(&self, device: Device) -> Self {
        Self { config: self.config.clone(), alphas_cumprod: self.alphas_cumprod.to_device(device) }
    }

    /// x_t of `latents` `[B, C, h, w]` and `noise` (same shape) at `timesteps` `[B]` int64 (diffusers `add_noise`).
    pub fn add_noise(&self, latents: &Tensor, noise: &Tensor, timesteps: &Tensor) -> Tensor {
        let (signal, sigma) = self.coefficients(latents, timesteps);
        signal * latents + sigma * noise
    }

    /// v = sqrt(abar_t) noise - sqrt(1 - abar_t) x_0, the target of v-prediction (diffusers `get_velocity`; methods.md 0.2).
    pub fn velocity(&self, latents: &Tensor, noise: &Tensor, timesteps: &Tensor) -> Tensor {
        let (signal, sigma) = self.coefficients(latents, timesteps);
        signal * noise - sigma * latents
    }

    /// abar_t, `[B]` float32, on the device of `timesteps`.
    pub fn alphas_cumprod_at(&self, timesteps: &Tensor) -> Tensor {
        self.alphas_cumprod.to_device(timesteps.device()).index_select(0, timesteps)
    }

    /// sqrt(abar_t) and sqrt(1 - abar_t), `[B, 1, 1, 1]`, in kind and on device of `latents`.
    pub(crate) fn coefficients(&self, latents: &Tensor, timesteps: &Tensor) -> (Tensor, Tensor) {
        let abar = self.alphas_cumprod_at(&timesteps.to_device(latents.device())).to_kind(latents.kind());
        let mut shape = vec![1; latents.dim()];
        shape[0] = -1;
        let signal = abar.sqrt().reshape(&shape);
        let sigma = (1f64 - abar).sqrt().reshape(&shape);
        (signal, sigma)
    }
}

/// `[T]` float32, in diffusers' order of operations: the square roots are interpolated in float32, then squared.
fn betas(config: &SchedulerConfig) -> Tensor {
    let options = (Kind::Float, Device::Cpu);
    let n = config.num_train_timesteps;
    if let Some(trained) = &config.trained_betas {
        return Tensor::from_slice(trained).to_kind(Kind::Float);
    }
    match config.beta_schedule {
        BetaSchedule::Linear => Tensor::linspace(config.beta_start, config.beta_end, n, options),
        BetaSchedule::ScaledLinear => {
            Tensor::linspace(config.beta_start.sqrt(), config.beta_end.sqrt(), n, options).pow_tensor_scalar(2)
        }
    }
}

/// Shifts and scales sqrt(abar) so that its last entry is 0 and its first stays (arXiv 2305.08891, algorithm 1).
fn rescale_zero_terminal_snr(betas: &Tensor) -> Tensor {
    let root = (1f64 - betas).cumprod(0, None::<Kind>).sqrt();
    let (first, last) = (root.get(0), root.get(-1));
    let root = (root - &last) * (&first / (&first - &last));
    let abar = root.square();
    let n = abar.size()[0];
    let alphas = Tensor::cat(&[abar.narrow(0, 0, 1), abar.narrow(0, 1, n - 1) / abar.narrow(0, 0, n - 1)], 0);
    1f64 - alphas
}
