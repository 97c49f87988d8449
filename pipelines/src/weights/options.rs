//! Options of loading weights.

/// Device and kind of loaded weights.
#[derive(Debug, Clone, Copy)]
pub struct LoadOptions {
    pub device: tch::Device,
    pub kind: tch::Kind,
}

/// Whether every value of a tensor is finite.
///
/// # Errors
/// A kind that libtorch cannot test.
pub fn is_finite(tensor: &tch::Tensor) -> crate::Result<bool> {
    Ok(tensor.f_isfinite()?.f_all()?.f_int64_value(&[])? != 0)
}

impl LoadOptions {
    /// float32 on the CPU.
    pub fn cpu() -> Self {
        Self { device: tch::Device::Cpu, kind: tch::Kind::Float }
    }
}
