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

/// Names of the tensors with a value that is not finite. One copy to the host for all of them.
///
/// # Errors
/// A kind that libtorch cannot compare.
pub fn not_finite<'a>(tensors: impl IntoIterator<Item = (&'a String, &'a tch::Tensor)>) -> crate::Result<Vec<String>> {
    let (mut names, mut ends) = (Vec::new(), Vec::new());
    for (name, tensor) in tensors.into_iter().filter(|(_, tensor)| tensor.numel() > 0) {
        // One pass over the values: NaN is passed on, infinity is an end.
        let (least, largest) = tensor.f_aminmax(None, false)?;
        names.push(name);
        ends.push(tch::Tensor::f_stack(&[least, largest], 0)?.f_isfinite()?.f_all()?);
    }
    if ends.is_empty() {
        return Ok(Vec::new());
    }
    let whole = Vec::<bool>::try_from(tch::Tensor::f_stack(&ends, 0)?.f_to_device(tch::Device::Cpu)?)?;
    Ok(names.into_iter().zip(whole).filter(|(_, whole)| !whole).map(|(name, _)| name.clone()).collect())
}

impl LoadOptions {
    /// float32 on the CPU.
    pub fn cpu() -> Self {
        Self { device: tch::Device::Cpu, kind: tch::Kind::Float }
    }
}
