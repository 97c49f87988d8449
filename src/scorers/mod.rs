//! Everything that rates a picture: scorers by name, their measures, their mixture into rewards, and the labellers of
//! data.

mod compressibility;
mod content;
mod drawings;
mod judge;
pub mod labelled_by;
mod measure;
mod named;
mod nearest;
mod pixels;
mod registry;
mod rewards;
mod scorer;
mod shaping;
mod spec;
mod style;
#[cfg(test)]
mod tests;

pub use content::LARGEST;
pub use judge::Judge;
pub use measure::{Better, Measure, Range, Scope, Table};
pub use named::Named;
pub use registry::{NOT_BUILT, REGISTRY, Unknown, declaration, names};
pub use rewards::{Ratings, RewardConfig, Rewards, Weighted};
pub use scorer::{Declaration, Files, Opening, Scorer};
pub use shaping::Shaping;
pub use spec::ScorerSpec;
