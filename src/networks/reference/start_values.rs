//! The policy's network without its adapters, or with their start values.

use super::super::policy::Policy;
use super::measured::Reference;
use pipelines::families::Denoiser;
use pipelines::models::AdapterSet;

/// The policy's network with other adapters; `None`: without any.
pub struct StartValues(pub Option<AdapterSet>);

impl Reference for StartValues {
    fn network<'a>(&'a self, policy: &'a Policy) -> Option<(&'a Denoiser, Option<AdapterSet>)> {
        Some((&policy.denoiser, self.0))
    }
}
