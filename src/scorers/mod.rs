//! Everything that rates a picture: scorers by name, their measures, their mixture into rewards, and the labellers of
//! data.

mod brisque;
mod clip;
mod composites;
mod drawings;
mod external;
mod judge;
pub mod labelled_by;
mod linear_chain;
mod measure;
mod named;
mod pairwise;
mod pixels;
mod registry;
mod rewards;
mod ring;
mod scorer;
mod shaping;
mod sheets;
mod spec;
#[cfg(test)]
mod tests;
mod trained_on;

pub use clip::{Encoder, Preprocessing, Rounding, other_files as clip_files};
pub use judge::Judge;
pub use measure::{Better, Measure, Range, Scope, Table};
pub use named::Named;
pub use pairwise::{Answers, Pairwise};
pub use registry::{LARGEST, NOT_BUILT, REGISTRY, Unknown, declaration, names};
pub use rewards::{Ratings, RewardConfig, Rewards, Weighted};
pub use scorer::{Declaration, Files, Opening, Scorer};
pub use shaping::Shaping;
pub use sheets::Sheets;
pub use spec::{Rated, ScorerSpec};
pub use trained_on::DataFile;
