//! Preference heads over the features of a CLIP: one file per head with its loss and its weights. Heads are trained by
//! `scorer_training/` and opened by `scorers/`.

mod btt;
mod contrastive;
mod dimensions;
mod disagreement_margin;
mod dprm;
mod gpm;
mod head;
mod hpsv2;
mod lore;
mod method;
mod more;
mod pal;
mod pickscore;
mod ranklist;
mod saved;
mod shared;
#[cfg(test)]
mod tests;
mod uncertainty;

pub use contrastive::loss as contrastive_loss;
pub use disagreement_margin::{DisagreementMargin, MarginSource, of_votes as margin_of_votes};
pub use dprm::target as dprm_target;
pub use head::{Batch, Group, Head, Input, Measured, Parameters, Ranking};
pub use hpsv2::HpsLabels;
pub use method::{Built, Method, NOT_BUILT, Objective};
pub use more::shares as more_shares;
pub use pickscore::prompt_weights;
pub use saved::{FILE, Preprocessed, Saved, WEIGHTS};
