//! LoRAs of lower rank: the nearest product of two matrices to a difference of weights, or to a product of higher rank.

use super::file::Lora;
use super::targets::Network;
use super::weights::{LoraModule, LoraWeights, adapter_shapes};
use crate::error::{Error, Result};
use std::collections::BTreeMap;
use tch::{Kind, Tensor};

/// Truncation error of one module.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Truncation {
    /// Frobenius norm of the omitted part.
    pub left: f64,
    /// Frobenius norm of the whole difference.
    pub whole: f64,
}

impl Truncation {
    /// `left / whole`, in `[0, 1]` up to rounding; 0 for an empty difference.
    pub fn relative(&self) -> f64 {
        if self.whole > 0.0 { self.left / self.whole } else { 0.0 }
    }
}

/// A LoRA of lower rank, and the truncation of each module: `unet.<module path>` and its error.
#[derive(Debug)]
pub struct Reduced {
    pub lora: Lora,
    pub modules: Vec<(String, Truncation)>,
}

impl LoraModule {
    /// The module of at most `rank` nearest to a difference of weights in the Frobenius norm (Eckart and Young: the
    /// largest singular values are kept). A layer smaller than `rank` gets its full rank without loss. `difference`
    /// has the shape of the weight. float64 inside, the matrices float32, the scale 1.
    pub fn of_difference(difference: &Tensor, rank: i64) -> Result<(Self, Truncation)> {
        let shape = difference.size();
        let (a, b, truncation) = nearest(&difference.f_to_kind(Kind::Double)?.f_flatten(1, -1)?, rank)?;
        Ok((Self::shaped(&a, &b, &shape)?, truncation))
    }

    /// The nearest module of at most `rank` to a module's product, computed in the space of its own rank. A module of
    /// no higher rank keeps its matrices, with its scale moved into B.
    pub fn truncated(&self, rank: i64) -> Result<(Self, Truncation)> {
        let shape = [&self.b.size()[..1], &self.a.size()[1..]].concat();
        let a = self.a.f_to_kind(Kind::Double)?.f_flatten(1, -1)?;
        let b = (self.b.f_to_kind(Kind::Double)? * self.scale).f_flatten(1, -1)?;
        // B A = Qb (Rb Ra^T) Qa^T with orthonormal Q: the singular values are those of the small matrix in the middle.
        let (qb, rb) = Tensor::f_linalg_qr(&b, "reduced")?;
        let (qa, ra) = Tensor::f_linalg_qr(&a.f_transpose(0, 1)?, "reduced")?;
        let core = rb.f_matmul(&ra.f_transpose(0, 1)?)?;
        if self.rank() <= rank {
            let whole = norm(&core)?;
            return Ok((Self::shaped(&a, &b, &shape)?, Truncation { left: 0.0, whole }));
        }
        let (a, b, truncation) = nearest(&core, rank)?;
        let module = Self::shaped(&a.f_matmul(&qa.f_transpose(0, 1)?)?, &qb.f_matmul(&b)?, &shape)?;
        Ok((module, truncation))
    }

    /// Float32 matrices in the form for a weight of `shape`.
    fn shaped(a: &Tensor, b: &Tensor, shape: &[i64]) -> Result<Self> {
        let (a_shape, b_shape) = adapter_shapes(shape, a.size().first().copied().unwrap_or_default());
        let form = |t: &Tensor, shape: &[i64]| -> Result<Tensor> {
            Ok(t.f_to_kind(Kind::Float)?.f_contiguous()?.f_view(shape)?)
        };
        Ok(Self { a: form(a, &a_shape)?, b: form(b, &b_shape)?, scale: 1.0 })
    }
}

impl Lora {
    /// The LoRA with every module of at most `rank`; None keeps all ranks. Scales move into B. `on_module` is called
    /// before every module and may stop the work.
    ///
    /// # Errors
    /// A rank below 1, or above that of every module.
    pub fn reduced(&self, rank: Option<i64>, on_module: &mut dyn FnMut(&str) -> Result<()>) -> Result<Reduced> {
        let named = |network: Network, path: &str| format!("{}.{path}", network.name());
        let shapes = self.networks().flat_map(|(network, weights)| {
            let shape = |module: &LoraModule| [&module.b.size()[..1], &module.a.size()[1..]].concat();
            weights.modules.iter().map(move |(path, module)| (named(network, path), shape(module)))
        });
        if let Some(rank) = rank {
            check_rank(rank, shapes)?;
        }
        let mut reduced: BTreeMap<Network, LoraWeights> = BTreeMap::new();
        let mut modules = Vec::new();
        for (network, weights) in self.networks() {
            for (path, module) in &weights.modules {
                let name = named(network, path);
                on_module(&name)?;
                let (module, truncation) = module.truncated(rank.unwrap_or(i64::MAX))?;
                if truncation.whole > 0.0 {
                    reduced.entry(network).or_default().modules.insert(path.clone(), module);
                    modules.push((name, truncation));
                }
            }
        }
        Ok(Reduced { lora: Self::of_networks(reduced), modules })
    }
}

/// Refuses a rank of 0, or above that of the largest layer.
pub(crate) fn check_rank(rank: i64, layers: impl Iterator<Item = (String, Vec<i64>)>) -> Result<()> {
    if rank < 1 {
        return Err(Error::Invalid(format!("the rank is {rank}, expected at least 1")));
    }
    let room = |shape: &[i64]| shape[1..].iter().product::<i64>().min(shape[0]);
    let widest = layers.filter(|(_, shape)| shape.len() > 1).max_by_key(|(_, shape)| room(shape));
    match widest {
        Some((path, shape)) if rank > room(&shape) => Err(Error::Invalid(format!(
            "rank {rank} is larger than any layer: the largest is {path} with the weight {shape:?}, whose rank is at most \
             {most}; give {most} or less",
            most = room(&shape)
        ))),
        _ => Ok(()),
    }
}

/// A `[r, n]` and B `[m, r]`, float64, whose product is the matrix of rank `r = min(rank, m, n)` nearest to `[m, n]`.
///
/// The smaller Gram matrix is diagonalised instead of a decomposition of the whole, which is several times faster.
/// The loss in float64 (directions below 1e-8 of the largest singular value) is below the rounding of the float32
/// matrices.
fn nearest(matrix: &Tensor, rank: i64) -> Result<(Tensor, Tensor, Truncation)> {
    let &[m, n] = matrix.size().as_slice() else {
        return Err(Error::Invalid(format!("a LoRA is of matrices, not of {:?}", matrix.size())));
    };
    if m < n {
        let (a, b, truncation) = nearest(&matrix.f_transpose(0, 1)?, rank)?;
        return Ok((b.f_transpose(0, 1)?, a.f_transpose(0, 1)?, truncation));
    }
    let gram = matrix.f_transpose(0, 1)?.f_matmul(matrix)?;
    let (_, vectors) = gram.f_linalg_eigh("L")?;
    // The largest eigenvalues come last.
    let kept = rank.min(n);
    let right = vectors.f_narrow(1, n - kept, kept)?.f_flip([1])?;
    let left = matrix.f_matmul(&right)?;
    // Each matrix gets the root of a singular value, so that both stay in the range of float16.
    let roots =
        left.f_square()?.f_sum_dim_intlist([0_i64].as_slice(), true, Kind::Double)?.f_pow_tensor_scalar(0.25)?;
    let inverse = roots.f_reciprocal()?.f_nan_to_num(0.0, 0.0, 0.0)?;
    let b = left.f_mul(&inverse)?;
    let a = right.f_mul(&roots)?.f_transpose(0, 1)?;
    let rest = matrix.f_sub(&rounded(&b)?.f_matmul(&rounded(&a)?)?)?;
    let truncation = Truncation { left: norm(&rest)?, whole: norm(matrix)? };
    Ok((a, b, truncation))
}

/// The values after rounding to float32 matrices.
fn rounded(tensor: &Tensor) -> Result<Tensor> {
    Ok(tensor.f_to_kind(Kind::Float)?.f_to_kind(Kind::Double)?)
}

fn norm(tensor: &Tensor) -> Result<f64> {
    Ok(tensor.f_square()?.f_sum(Kind::Double)?.f_sqrt()?.f_double_value(&[])?)
}
