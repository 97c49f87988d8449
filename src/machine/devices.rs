//! Devices by name.

use serde::{Deserialize, Serialize};
use std::fmt::{Display, Formatter};
use std::str::FromStr;

/// A device by name: `cpu`, `cuda` (the first one) or `cuda:N`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum Device {
    Cpu,
    /// CUDA device by index.
    Cuda(usize),
}

/// Reason why a name matches no device of this machine.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum DeviceError {
    #[error("expected auto, cpu, cuda or cuda:N")]
    Name,
    #[error("no CUDA device was found. `diffpref doctor` lists the devices; use cpu")]
    NoCuda,
    #[error("expected one of the {0} CUDA devices found, counted from 0")]
    Index(usize),
}

impl Device {
    /// The first CUDA device, else the CPU: the meaning of `auto`.
    pub fn best() -> Self {
        if cuda_devices() > 0 { Self::Cuda(0) } else { Self::Cpu }
    }

    /// The device for libtorch.
    ///
    /// # Errors
    /// A CUDA device that does not exist.
    pub fn open(self) -> Result<tch::Device, DeviceError> {
        match (self, cuda_devices()) {
            (Self::Cpu, _) => Ok(tch::Device::Cpu),
            (Self::Cuda(index), count) if index < count => Ok(tch::Device::Cuda(index)),
            (Self::Cuda(_), 0) => Err(DeviceError::NoCuda),
            (Self::Cuda(_), count) => Err(DeviceError::Index(count)),
        }
    }
}

impl FromStr for Device {
    type Err = DeviceError;

    fn from_str(name: &str) -> Result<Self, DeviceError> {
        match (name, name.strip_prefix("cuda:")) {
            ("cpu", _) => Ok(Self::Cpu),
            ("cuda", _) => Ok(Self::Cuda(0)),
            (_, Some(index)) => index.parse().map(Self::Cuda).map_err(|_| DeviceError::Name),
            _ => Err(DeviceError::Name),
        }
    }
}

impl TryFrom<String> for Device {
    type Error = DeviceError;

    fn try_from(name: String) -> Result<Self, DeviceError> {
        name.parse()
    }
}

impl From<Device> for String {
    fn from(device: Device) -> Self {
        device.to_string()
    }
}

impl Display for Device {
    fn fmt(&self, f: &mut Formatter) -> std::fmt::Result {
        match self {
            Self::Cpu => f.write_str("cpu"),
            Self::Cuda(index) => write!(f, "cuda:{index}"),
        }
    }
}

/// Number of CUDA devices.
pub fn cuda_devices() -> usize {
    tch::Cuda::device_count().max(0) as usize
}

/// Name of a device in records: `cpu`, `cuda:0`.
pub fn name(device: tch::Device) -> String {
    match device {
        tch::Device::Cpu => Device::Cpu.to_string(),
        tch::Device::Cuda(index) => Device::Cuda(index).to_string(),
        other => format!("{other:?}").to_lowercase(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_read_and_written() {
        for (text, device, name) in
            [("cpu", Device::Cpu, "cpu"), ("cuda", Device::Cuda(0), "cuda:0"), ("cuda:3", Device::Cuda(3), "cuda:3")]
        {
            assert_eq!(text.parse(), Ok(device));
            assert_eq!(device.to_string(), name);
        }
        for text in ["auto", "", "cuda:", "cuda:x", "CPU"] {
            assert_eq!(text.parse::<Device>(), Err(DeviceError::Name), "{text}");
        }
    }
}
