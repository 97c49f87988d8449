//! State that stays loaded between the runs of one process.

use super::environment::Contents;
use crate::keys::ConfigError;
use crate::machine::hashes;
use crate::networks::{self, Machine, Networks};
use crate::rollout::Setup;
use crate::scorers::Rewards;
use crate::settings::Settings;
use anyhow::Result;
use pipelines::families::{Denoiser, ModelFolder};
use std::rc::Rc;

/// Networks and scorers of earlier runs, lent to the next one. A run without usable ones loads its own. Embeddings
/// and latents stay in the cache folder.
#[derive(Default)]
pub struct Resident {
    base: Option<Kept<Denoiser>>,
    scorers: Option<Kept<Rc<Rewards>>>,
    /// Key of the networks of the current run.
    lent: Option<String>,
}

/// A loaded value with the key of everything that it depends on.
struct Kept<T> {
    key: String,
    value: T,
}

impl<T> Kept<T> {
    fn for_key(kept: Option<Self>, key: &str) -> Option<T> {
        kept.filter(|kept| kept.key == key).map(|kept| kept.value)
    }
}

impl Resident {
    /// Networks of a run. `contents`: hashes of the files in the configuration.
    ///
    /// # Errors
    /// Errors of the model's files or the machine.
    pub fn networks(
        &mut self,
        config: &Settings,
        folder: &ModelFolder,
        contents: &Contents,
        machine: Machine,
        needs_reference: bool,
    ) -> Result<Networks> {
        let files = ["model.path", "model.unet"].map(|name| contents.get(name));
        let key = hashes::of_bytes(format!("{files:?} {:?} {machine:?}", folder.scheduler()).as_bytes());
        let base = Kept::for_key(self.base.take(), &key);
        self.lent = Some(key);
        networks::load(config, folder, machine, needs_reference, base)
    }

    /// Takes back the networks of a run: removes adapters and drops trained weights.
    pub fn give_back(&mut self, networks: Networks) {
        let base = networks.into_base();
        self.base = self.lent.take().zip(base).map(|(key, value)| Kept { key, value });
    }

    /// Scorers of a run that samples.
    ///
    /// # Errors
    /// A scorer that cannot be opened.
    pub fn rewards(&mut self, setup: &Setup, contents: &Contents) -> Result<Rc<Rewards>> {
        let missing = || ConfigError("[reward] is missing: the method samples while it trains.".into());
        let reward = setup.config.reward.as_ref().ok_or_else(missing)?;
        let files = ["model.path", "reward.scorers", "reward.watch", "reward.pairwise"].map(|name| contents.get(name));
        let key = format!("{reward:?} {files:?} {:?}", setup.machine);
        let rewards = match Kept::for_key(self.scorers.take(), &key) {
            Some(rewards) => rewards,
            None => Rc::new(Rewards::open(reward, setup.machine.frozen(), Some(setup.folder))?),
        };
        self.scorers = Some(Kept { key, value: rewards.clone() });
        Ok(rewards)
    }
}
