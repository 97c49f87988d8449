//! A separate network, next to a fully trained policy.

use super::super::policy::Policy;
use super::measured::Reference;
use pipelines::families::Denoiser;
use pipelines::models::AdapterSet;
use tch::Tensor;

/// A network beside the policy's.
pub struct Frozen(pub Denoiser);

impl Reference for Frozen {
    fn network<'a>(&'a self, _: &'a Policy) -> Option<(&'a Denoiser, Option<AdapterSet>)> {
        Some((&self.0, None))
    }

    fn into_network(self: Box<Self>) -> Option<Denoiser> {
        Some(self.0)
    }

    fn own_tensors(&self) -> Vec<(String, Tensor)> {
        self.0.network.named_parameters()
    }
}
