//! Forms of tensors in single-file checkpoints.

use crate::error::Result;
use tch::Tensor;

/// Form of a tensor of the diffusers layout in a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Form {
    Same,
    /// A matrix stored as a 1x1 convolution, `[out, in, 1, 1]`; in older files also as a matrix.
    Pointwise,
    /// A matrix stored transposed, without `.weight`.
    Transposed,
    /// One third of the rows of OpenCLIP's fused `in_proj`: 0 is q, 1 is k, 2 is v.
    Third(i64),
}

impl Form {
    /// The shape after conversion of a stored tensor.
    pub fn shape_of(self, stored: &[i64]) -> Vec<i64> {
        match (self, stored) {
            (Self::Pointwise, [out, input, 1, 1]) => vec![*out, *input],
            (Self::Transposed, [a, b]) => vec![*b, *a],
            (Self::Third(_), [rows, rest @ ..]) if rows % 3 == 0 => [&[rows / 3], rest].concat(),
            _ => stored.to_vec(),
        }
    }

    /// A converted stored tensor; the loader refuses a wrong shape later.
    pub fn tensor_of(self, stored: Tensor) -> Result<Tensor> {
        let size = stored.size();
        let shape = self.shape_of(&size);
        match self {
            Self::Third(third) if shape != size => Ok(stored.f_narrow(0, third * shape[0], shape[0])?),
            Self::Transposed if size.len() == 2 => Ok(stored.f_transpose(0, 1)?.f_contiguous()?),
            Self::Pointwise if shape != size => Ok(stored.f_view(shape.as_slice())?),
            _ => Ok(stored),
        }
    }

    /// The stored shape of a tensor.
    pub fn stored_shape(self, shape: &[i64]) -> Vec<i64> {
        match (self, shape) {
            (Self::Pointwise, [out, input]) => vec![*out, *input, 1, 1],
            (Self::Transposed, [a, b]) => vec![*b, *a],
            (Self::Third(_), [rows, rest @ ..]) => [&[rows * 3], rest].concat(),
            _ => shape.to_vec(),
        }
    }

    /// The stored form of a tensor; the writer joins the thirds of a fused one.
    pub fn stored_of(self, tensor: Tensor) -> Result<Tensor> {
        match self {
            Self::Pointwise => {
                let shape = self.stored_shape(&tensor.size());
                Ok(tensor.f_view(shape.as_slice())?)
            }
            Self::Transposed => Ok(tensor.f_transpose(0, 1)?.f_contiguous()?),
            Self::Same | Self::Third(_) => Ok(tensor),
        }
    }
}
