//! Values of options of several commands.

use clap::ValueEnum;
use clap::builder::{PossibleValuesParser, TypedValueParser};
use diffpref::keys::{Auto, Choice};
use diffpref::machine::devices::Device;
use pipelines::families::Layers;
use pipelines::schedulers::PredictionType;
use tch::Kind;

/// A value of a closed choice of the configuration, by its name there.
pub fn named<T>() -> impl TypedValueParser<Value = T>
where
    T: Choice + std::str::FromStr<Err = String> + Send + Sync,
{
    PossibleValuesParser::new(T::NAMES).try_map(|name| name.parse::<T>())
}

/// `auto`, `cpu`, `cuda` or `cuda:N` as an existing device.
pub fn device(name: &str) -> Result<tch::Device, String> {
    let device = name.parse::<Auto<Device>>().map(|device| device.given().unwrap_or_else(Device::best));
    device.and_then(Device::open).map_err(|e| e.to_string())
}

/// `--dtype` of written weights.
#[derive(Debug, Clone, Copy, ValueEnum)]
pub enum StoredDtype {
    Auto,
    Float32,
    Float16,
    Bfloat16,
}

impl StoredDtype {
    /// None: that of the base model.
    pub fn kind(self) -> Option<Kind> {
        match self {
            Self::Auto => None,
            Self::Float32 => Some(Kind::Float),
            Self::Float16 => Some(Kind::Half),
            Self::Bfloat16 => Some(Kind::BFloat16),
        }
    }
}

/// `--dtype` of networks.
#[derive(Debug, Clone, Copy, Default, ValueEnum)]
pub enum ComputeDtype {
    #[default]
    Auto,
    Float32,
    Bfloat16,
    Float16,
    Float64,
}

impl ComputeDtype {
    pub fn kind(self, device: tch::Device) -> Kind {
        match self {
            Self::Auto if device == tch::Device::Cpu => Kind::Float,
            Self::Auto | Self::Bfloat16 => Kind::BFloat16,
            Self::Float32 => Kind::Float,
            Self::Float16 => Kind::Half,
            Self::Float64 => Kind::Double,
        }
    }
}

/// `--prediction-type`
#[derive(Debug, Clone, Copy, Default, ValueEnum)]
pub enum Prediction {
    #[default]
    Auto,
    Epsilon,
    #[value(name = "v_prediction")]
    V,
}

impl Prediction {
    /// None: as the model says.
    pub fn value(self) -> Option<PredictionType> {
        match self {
            Self::Auto => None,
            Self::Epsilon => Some(PredictionType::Epsilon),
            Self::V => Some(PredictionType::VPrediction),
        }
    }
}

/// `--layers` of a LoRA.
#[derive(Debug, Clone, Copy, ValueEnum)]
pub enum LoraLayers {
    All,
    Attention,
}

impl LoraLayers {
    pub fn value(self) -> Layers {
        match self {
            Self::All => Layers::All,
            Self::Attention => Layers::Attention,
        }
    }
}
