//! LoRe (arXiv 2504.14439; facebookresearch/LoRe `utils.py`): users as mixtures of B linear ratings.
//!
//!     r_u(x) = phi(x)^T V softmax(w_u);   L = -log sigmoid(r_u(w) - r_u(l)) + alpha mean_b (1 - cos(V_b, v_0))
//!
//! W and V are updated in turn; alpha ramps up between 20 % and 80 % of the training and acts on V's turn. Ours: phi = s
//! f_i * f_c elementwise, so that v_0 = ones is PickScore; no division by 100; AdamW on batches.

use super::head::{Batch, Group, Head, Input, Measured, Parameters};
use super::pal::{free_vectors, user_weights};
use super::pickscore::{difference, difference_of};
use super::shared::{cross_entropy, drawn, length, sum_last};
use crate::keys::{Range, whole, within};
use tch::{Device, Kind, Tensor};

crate::keys! {
    /// Keys of [method].
    pub struct Lore {
        /// B
        bases: i64 = whole(1, 256).or("5"),
        /// weight of the distance of the bases from PickScore at the end
        alpha: f64 = within(Range::NOT_NEGATIVE).or("0.1"),
    }
}

/// r `[N]` of features `[N, P]`, bases V `[B, P]` and free vectors `[N, B]` of the users.
pub fn ratings(features: &Tensor, bases: &Tensor, free: &Tensor) -> Tensor {
    sum_last(&(features.linear(bases, None::<Tensor>) * free.softmax(-1, None::<Kind>)))
}

/// mean_b (1 - cos(V_b, v_0)), v_0 of ones.
pub fn distance_from_ones(bases: &Tensor) -> Tensor {
    let cosines = sum_last(bases) / (length(bases) * (bases.size()[1] as f64).sqrt());
    let distances: Tensor = 1.0 - cosines;
    distances.mean(None::<Kind>)
}

/// alpha at `progress` in [0, 1]: 0 until 20 %, its value from 80 %.
pub fn ramp(alpha: f64, progress: f64) -> f64 {
    alpha * ((progress - 0.2) / 0.6).clamp(0.0, 1.0)
}

/// The bases and the users.
pub struct LowRank {
    settings: Lore,
    users: Vec<String>,
    /// V `[B, P]`
    bases: Tensor,
    /// `[U, B]`
    weights: Tensor,
    /// Users alone are trained.
    only_users: bool,
}

impl LowRank {
    /// V starts at ones with normal noise of standard deviation 0.1, users at N(0, 1). `only_users`: V stays fixed.
    pub fn new(settings: &Lore, width: i64, users: Vec<String>, only_users: bool, seed: u64, device: Device) -> Self {
        let bases: Tensor = drawn(seed, &"bases", &[settings.bases, width], 0.1) + 1.0;
        let weights = user_weights(seed, &users, settings.bases).to_device(device);
        Self { settings: settings.clone(), users, bases: bases.to_device(device), weights, only_users }
    }
}

impl Head for LowRank {
    fn users(&self) -> &[String] {
        &self.users
    }

    /// `[N, 1]`
    fn outputs(&self, input: &Input) -> Tensor {
        let features = input.images * input.prompts.select(1, 0) * input.scale;
        ratings(&features, &self.bases, &free_vectors(input, &self.weights)).unsqueeze(1)
    }

    fn losses(&self, outputs: &Tensor, batch: &Batch) -> Tensor {
        cross_entropy(&difference(outputs), &batch.share)
    }

    fn penalty(&self, progress: f64) -> Option<Tensor> {
        let alpha = ramp(self.settings.alpha, progress);
        (alpha > 0.0 && !self.only_users).then(|| distance_from_ones(&self.bases) * alpha)
    }

    fn probabilities(&self, pairs: &Tensor) -> Tensor {
        difference_of(pairs).sigmoid()
    }

    fn measures(&self) -> Vec<Measured> {
        vec![Measured::plain("lore")]
    }

    fn parameters(&self) -> Parameters {
        vec![("bases".into(), self.bases.shallow_clone()), ("users".into(), self.weights.shallow_clone())]
    }

    fn groups(&self) -> Vec<Group> {
        let group = |(name, tensor): (String, Tensor), turn| Group { turn, ..Group::fast(vec![(name, tensor)], 1.0) };
        let users = ("users".to_string(), self.weights.shallow_clone());
        match self.only_users {
            true => vec![group(users, None)],
            false => vec![group(users, Some(1)), group(("bases".into(), self.bases.shallow_clone()), Some(0))],
        }
    }
}
