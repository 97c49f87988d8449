//! Where a run computes, and in what numbers.

use crate::machine::devices;
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

/// The device of `model.device`.
fn device(name: &str) -> Result<Device, ConfigError> {
    let opened = name.parse::<devices::Device>().and_then(devices::Device::open);
    opened.map_err(|e| ConfigError(format!("model.device = \"{name}\": {e}")))
}
