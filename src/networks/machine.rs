//! Device and number types of a run.

use crate::keys::ConfigError;
use crate::machine::devices;
use crate::settings::Settings;
use anyhow::Result;
use pipelines::Dtype;
use pipelines::weights::LoadOptions;
use tch::{Device, Kind};

/// Device and number types of a run.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Machine {
    pub device: Device,
    /// Compute type of the networks.
    pub compute: Kind,
    /// Type of trained weights, errors and the objective: float32, or float64 if everything is.
    pub master: Kind,
}

impl Machine {
    /// Reads `model.device` and `model.dtype` of a resolved configuration.
    pub fn of(config: &Settings) -> Result<Self> {
        let device = device(config.model.device)?;
        let compute = config.model.dtype;
        let master = if compute == Dtype::Float64 { compute } else { Dtype::Float32 };
        Ok(Self { device, compute: compute.kind(), master: master.kind() })
    }

    /// Type of frozen weights.
    pub fn frozen(&self) -> LoadOptions {
        LoadOptions { device: self.device, kind: self.compute }
    }

    /// Type of trained weights.
    pub fn trained(&self) -> LoadOptions {
        LoadOptions { device: self.device, kind: self.master }
    }
}

/// The device of `model.device`.
fn device(name: devices::Device) -> Result<Device, ConfigError> {
    name.open().map_err(|e| ConfigError(format!("model.device = \"{name}\": {e}")))
}
