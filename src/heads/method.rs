//! `[method]` of scorer training: the heads by name, with their keys.

use super::btt::{Btt, WithTies};
use super::contrastive::Contrastive;
use super::dimensions::{Dimensions, Prefixed};
use super::disagreement_margin::{DisagreementMargin, Margins};
use super::dprm::{Bins, Dprm};
use super::gpm::{Embedding, Gpm};
use super::head::Head;
use super::hpsv2::{Hpsv2, Ranked};
use super::lore::{Lore, LowRank};
use super::more::{Elementwise, More};
use super::pal::{Mixture, Pal};
use super::pickscore::{Choice, Pickscore};
use super::ranklist::{Listwise, Ranklist};
use super::uncertainty::{MeanAndSigma, Uncertainty};
use crate::keys::{Key, Keys};
use serde::{Deserialize, Serialize};
use tch::Device;

crate::choice! {
    /// `[method] name`
    pub enum Objective {
        Contrastive = "contrastive",
        Pickscore = "pickscore",
        Hpsv2 = "hpsv2",
        Uncertainty = "uncertainty",
        Btt = "btt",
        Ranklist = "ranklist",
        Gpm = "gpm",
        Dimensions = "dimensions",
        Pal = "pal",
        Lore = "lore",
        Dprm = "dprm",
        DisagreementMargin = "disagreement_margin",
        More = "more",
    }
}

/// Published objectives of scorers that this version refuses.
pub const NOT_BUILT: &[&str] = &["step_aware", "mps", "outside_option"];

/// `[method]`: the objective and its keys.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(tag = "name", rename_all = "lowercase")]
pub enum Method {
    Contrastive(Contrastive),
    Pickscore(Pickscore),
    Hpsv2(Hpsv2),
    Uncertainty(Uncertainty),
    Btt(Btt),
    Ranklist(Ranklist),
    Gpm(Gpm),
    Dimensions(Dimensions),
    Pal(Pal),
    Lore(Lore),
    Dprm(Dprm),
    #[serde(rename = "disagreement_margin")]
    DisagreementMargin(DisagreementMargin),
    More(More),
}

/// Sizes, names and start of a head.
pub struct Built<'a> {
    /// Width P of the features.
    pub width: i64,
    /// Users of the data, for heads that read them.
    pub users: &'a [String],
    /// Dimensions of the data, for heads that read them.
    pub dimensions: &'a [String],
    /// Users alone are trained: all other start values are about to be read from a file.
    pub only_users: bool,
    pub seed: u64,
    pub device: Device,
}

impl Objective {
    /// Its keys in `[method]`.
    pub fn keys(self) -> &'static [Key] {
        match self {
            Self::Contrastive => Contrastive::KEYS,
            Self::Pickscore => Pickscore::KEYS,
            Self::Hpsv2 => Hpsv2::KEYS,
            Self::Uncertainty => Uncertainty::KEYS,
            Self::Btt => Btt::KEYS,
            Self::Ranklist => Ranklist::KEYS,
            Self::Gpm => Gpm::KEYS,
            Self::Dimensions => Dimensions::KEYS,
            Self::Pal => Pal::KEYS,
            Self::Lore => Lore::KEYS,
            Self::Dprm => Dprm::KEYS,
            Self::DisagreementMargin => DisagreementMargin::KEYS,
            Self::More => More::KEYS,
        }
    }

    /// Whether features of untouched towers are enough: the head has weights of its own.
    pub fn has_weights(self) -> bool {
        match self {
            Self::Uncertainty | Self::Gpm | Self::Pal | Self::Lore | Self::Dprm | Self::More => true,
            Self::Contrastive
            | Self::Pickscore
            | Self::Hpsv2
            | Self::Btt
            | Self::Ranklist
            | Self::Dimensions
            | Self::DisagreementMargin => false,
        }
    }

    /// Whether rows must name their user.
    pub fn reads_users(self) -> bool {
        matches!(self, Self::Pal | Self::Lore)
    }
}

impl Method {
    /// The objective without its keys.
    pub fn objective(&self) -> Objective {
        match self {
            Self::Contrastive(_) => Objective::Contrastive,
            Self::Pickscore(_) => Objective::Pickscore,
            Self::Hpsv2(_) => Objective::Hpsv2,
            Self::Uncertainty(_) => Objective::Uncertainty,
            Self::Btt(_) => Objective::Btt,
            Self::Ranklist(_) => Objective::Ranklist,
            Self::Gpm(_) => Objective::Gpm,
            Self::Dimensions(_) => Objective::Dimensions,
            Self::Pal(_) => Objective::Pal,
            Self::Lore(_) => Objective::Lore,
            Self::Dprm(_) => Objective::Dprm,
            Self::DisagreementMargin(_) => Objective::DisagreementMargin,
            Self::More(_) => Objective::More,
        }
    }

    /// The head with its start values. Captions alone are rated by the head of PickScore.
    pub fn head(&self, of: &Built) -> Box<dyn Head> {
        let Built { width, only_users, seed, device, .. } = *of;
        match self {
            Self::Contrastive(_) | Self::Pickscore(_) => Box::new(Choice),
            Self::Hpsv2(settings) => Box::new(Ranked(settings.clone())),
            Self::Uncertainty(_) => Box::new(MeanAndSigma::new(width, device)),
            Self::Btt(settings) => Box::new(WithTies(settings.clone())),
            Self::Ranklist(settings) => Box::new(Listwise(settings.clone())),
            Self::Gpm(settings) => Box::new(Embedding::new(settings, width, seed, device)),
            Self::Dimensions(settings) => Box::new(Prefixed::new(settings, of.dimensions.to_vec())),
            Self::Pal(settings) => Box::new(Mixture::new(settings, width, of.users.to_vec(), only_users, seed, device)),
            Self::Lore(settings) => {
                Box::new(LowRank::new(settings, width, of.users.to_vec(), only_users, seed, device))
            }
            Self::DisagreementMargin(_) => Box::new(Margins),
            Self::More(_) => Box::new(Elementwise::new(width, device)),
            Self::Dprm(settings) => Box::new(Bins::new(settings, width, seed, device)),
        }
    }
}
