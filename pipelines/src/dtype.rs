//! Floating point types by their names in configurations, command lines and files.

use serde::{Deserialize, Serialize};
use std::str::FromStr;
use tch::Kind;

/// Type of stored weights or of a network's computation.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Dtype {
    Float32,
    BFloat16,
    Float16,
    Float64,
}

impl Dtype {
    pub const ALL: [Self; 4] = [Self::Float32, Self::BFloat16, Self::Float16, Self::Float64];

    /// The name in configurations and on the command line, as torch spells it.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Float32 => "float32",
            Self::BFloat16 => "bfloat16",
            Self::Float16 => "float16",
            Self::Float64 => "float64",
        }
    }

    pub const fn kind(self) -> Kind {
        match self {
            Self::Float32 => Kind::Float,
            Self::BFloat16 => Kind::BFloat16,
            Self::Float16 => Kind::Half,
            Self::Float64 => Kind::Double,
        }
    }

    /// The dtype of a floating point kind; `None` for integers and booleans.
    pub fn of_kind(kind: Kind) -> Option<Self> {
        Self::ALL.into_iter().find(|dtype| dtype.kind() == kind)
    }
}

impl std::fmt::Display for Dtype {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for Dtype {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        Self::ALL.into_iter().find(|dtype| dtype.name() == text).ok_or_else(|| {
            let names = Self::ALL.map(Self::name).join(", ");
            format!("{text:?}: expected {names}")
        })
    }
}

/// Types of stored tensors and the kinds that libtorch holds them in.
const STORED: [(safetensors::Dtype, Kind); 10] = [
    (safetensors::Dtype::F16, Kind::Half),
    (safetensors::Dtype::BF16, Kind::BFloat16),
    (safetensors::Dtype::F32, Kind::Float),
    (safetensors::Dtype::F64, Kind::Double),
    (safetensors::Dtype::I64, Kind::Int64),
    (safetensors::Dtype::I32, Kind::Int),
    (safetensors::Dtype::I16, Kind::Int16),
    (safetensors::Dtype::I8, Kind::Int8),
    (safetensors::Dtype::U8, Kind::Uint8),
    (safetensors::Dtype::BOOL, Kind::Bool),
];

/// The kind of a stored type; `None` if libtorch has none.
pub(crate) fn kind_of_stored(dtype: safetensors::Dtype) -> Option<Kind> {
    STORED.iter().find(|(stored, _)| *stored == dtype).map(|(_, kind)| *kind)
}

/// The type in which a file stores a kind; `None` if safetensors has none.
pub(crate) fn stored_of_kind(kind: Kind) -> Option<safetensors::Dtype> {
    STORED.iter().find(|(_, known)| *known == kind).map(|(dtype, _)| *dtype)
}
