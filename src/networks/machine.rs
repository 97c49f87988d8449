//! Where a run computes, and in what numbers.

use crate::settings::{Config, ConfigError};
use anyhow::Result;
use pipelines::Dtype;
use pipelines::weights::LoadOptions;
use tch::{Device, Kind};

/// Where and in what numbers the run computes.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Machine {
    pub device: Device,
    /// Of the networks' arithmetic.
    pub compute: Kind,
    /// Of trained weights, errors and the objective: float32, or float64 where everything is.
    pub master: Kind,
}

impl Machine {
    /// Reads `model.device` and `model.dtype` of a resolved configuration.
    pub fn of(config: &Config) -> Result<Self> {
        let device = device(&config.model.device)?;
        let compute = config.model.dtype;
        let master = if compute == Dtype::Float64 { compute } else { Dtype::Float32 };
        Ok(Self { device, compute: compute.kind(), master: master.kind() })
    }

    /// How frozen weights are held.
    pub fn frozen(&self) -> LoadOptions {
        LoadOptions { device: self.device, kind: self.compute }
    }

    /// How trained weights are held.
    pub fn trained(&self) -> LoadOptions {
        LoadOptions { device: self.device, kind: self.master }
    }
}

/// `cpu`, `cuda` or `cuda:N`.
pub fn device(text: &str) -> Result<Device> {
    let index = match text {
        "cpu" => return Ok(Device::Cpu),
        "cuda" => Some(0),
        other => other.strip_prefix("cuda:").and_then(|n| n.parse::<usize>().ok()),
    };
    let count = tch::Cuda::device_count().max(0) as usize;
    let wrong = |text: String| ConfigError(text).into();
    match index {
        Some(i) if i < count => Ok(Device::Cuda(i)),
        Some(_) if count == 0 => Err(wrong(format!(
            "model.device = \"{text}\": no CUDA device was found. `diffpref doctor` lists the devices; use \"cpu\"."
        ))),
        Some(_) => Err(wrong(format!("model.device = \"{text}\": expected one of the {count} CUDA devices found."))),
        None => Err(wrong(format!("model.device = \"{text}\": expected \"auto\", \"cpu\", \"cuda\" or \"cuda:N\"."))),
    }
}
