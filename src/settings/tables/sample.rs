//! [sample]: pictures while training.

use super::rollout::Prompts;
use crate::keys::OnResume::Harmless;
use crate::keys::{Kind, Range, at_least, of, whole, within};
use crate::settings::facts::Facts;
use pipelines::schedulers::{SCHEDULERS, Scheduler};
use serde::{Deserialize, Serialize};

const NAMES: [&str; SCHEDULERS.len()] = names();

const fn names() -> [&'static str; SCHEDULERS.len()] {
    let (mut names, mut i) = ([""; SCHEDULERS.len()], 0);
    while i < names.len() {
        names[i] = SCHEDULERS[i].name;
        i += 1;
    }
    names
}

crate::keys! {
    pub struct Parsed {
        /// steps between sample grids; 0: off
        every: u64 = at_least(0).or("200").on_resume(Harmless),
        /// a list, or a file; default: the first 4 validation prompts, or of [rollout]
        prompts: Option<Prompts> = of(Kind::TextsOrFile).on_resume(Harmless),
        /// one picture for each prompt and seed
        seeds: Vec<i64> = of(Kind::Ints { min: 0, max: i64::MAX }).or("[0, 1]").on_resume(Harmless),
        /// of the sampler
        steps: usize = whole(1, 1000).or("25").on_resume(Harmless),
        /// default: 7.5, SDXL 5
        guidance_scale: Option<f64> = within(Range::NOT_NEGATIVE).on_resume(Harmless),
        /// sampler
        scheduler: String = of(Kind::Choice(&NAMES, &[])).or_text("ddim").on_resume(Harmless),
    }
}

#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct SampleConfig {
    pub every: u64,
    #[serde(default)]
    pub prompts: Vec<String>,
    pub seeds: Vec<i64>,
    pub steps: usize,
    pub guidance_scale: f64,
    #[serde(with = "by_name")]
    pub scheduler: &'static Scheduler,
}

impl Parsed {
    pub(in crate::settings) fn resolve(&self, facts: &Facts) -> SampleConfig {
        SampleConfig {
            every: self.every,
            prompts: match &self.prompts {
                Some(Prompts::List(prompts)) => prompts.clone(),
                Some(Prompts::File(_)) | None => facts.sample_prompts.clone(),
            },
            seeds: self.seeds.clone(),
            steps: self.steps,
            guidance_scale: self.guidance_scale.unwrap_or_else(|| facts.family.guidance_scale()),
            scheduler: Scheduler::by_name(&self.scheduler).unwrap_or(Scheduler::ddim()),
        }
    }
}

/// A sampler by its name.
mod by_name {
    use pipelines::schedulers::{Scheduler, scheduler_names};
    use serde::{Deserialize, Deserializer, Serializer, de::Error};

    pub fn serialize<S: Serializer>(scheduler: &&'static Scheduler, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(scheduler.name)
    }

    pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<&'static Scheduler, D::Error> {
        let name = String::deserialize(deserializer)?;
        Scheduler::by_name(&name).ok_or_else(|| D::Error::custom(format!("{name}: expected {}", scheduler_names())))
    }
}
