//! The registry of samplers.

use super::config::SchedulerConfig;
use super::sampler::{Sampler, SamplerOptions, Scheduler};
use super::{ddim, dpmpp_2m, euler, euler_a, pndm};
use crate::{Error, Result};

/// Every sampler: a new one is its file and its line here.
pub static SCHEDULERS: [&Scheduler; 5] =
    [&pndm::SCHEDULER, &ddim::SCHEDULER, &dpmpp_2m::SCHEDULER, &euler::SCHEDULER, &euler_a::SCHEDULER];

impl Scheduler {
    /// The sampler of a name.
    pub fn by_name(name: &str) -> Option<&'static Self> {
        SCHEDULERS.iter().copied().find(|scheduler| scheduler.name == name)
    }

    /// Default sampler of evaluations and of samples while training.
    pub fn ddim() -> &'static Self {
        &ddim::SCHEDULER
    }

    /// The sampler of a diffusers class.
    pub fn of_class(class: &str) -> Option<&'static Self> {
        SCHEDULERS.iter().copied().find(|scheduler| scheduler.class == class)
    }

    /// A fresh sampler of `steps` steps for one batch of pictures: samplers have state.
    ///
    /// # Errors
    /// Those of [`Self::check_options`]; steps that the model lacks, a key of the file that is not implemented,
    /// epsilon prediction with zero terminal SNR.
    pub fn sampler(&self, config: &SchedulerConfig, steps: i64, options: &SamplerOptions) -> Result<Box<dyn Sampler>> {
        self.check_options(options)?;
        if self.takes_zero_terminal_snr {
            config.check_terminal_snr()?;
        }
        (self.build)(config, steps, options)
    }

    /// Refuses options outside this sampler, and names the samplers with them.
    pub fn check_options(&self, options: &SamplerOptions) -> Result<()> {
        let eta = options.eta;
        if !(0.0..=1.0).contains(&eta) {
            return Err(Error::Invalid(format!("eta {eta}: expected 0 (deterministic) to 1 (the noise of DDPM)")));
        }
        if eta > 0.0 && !self.takes_eta {
            return Err(Error::Invalid(format!("{} has no eta; {}", self.name, those_with(|s| s.takes_eta))));
        }
        if options.karras == Some(true) && !self.takes_karras {
            return Err(Error::Invalid(format!(
                "{} has no noise levels that Karras's could replace; {}",
                self.name,
                those_with(|s| s.takes_karras)
            )));
        }
        Ok(())
    }
}

/// The names of all samplers: `pndm, ddim, ..`.
pub fn scheduler_names() -> String {
    SCHEDULERS.map(|scheduler| scheduler.name).join(", ")
}

/// `ddim has` or `dpmpp_2m, euler have`: the samplers with a feature.
pub fn those_with(can: impl Fn(&Scheduler) -> bool) -> String {
    let able: Vec<&str> = SCHEDULERS.iter().filter(|s| can(s)).map(|s| s.name).collect();
    format!("{} {}", able.join(", "), if able.len() == 1 { "has" } else { "have" })
}
