//! Sampling options, checked against one another and against the model.

use super::request::Overrides;
use crate::keys::ConfigError;
use anyhow::Result;
use pipelines::sampling::Guidance;
use pipelines::schedulers::{Sampler, SamplerOptions, Scheduler, SchedulerConfig, scheduler_names, those_with};

/// Requested sampling options; `None`: not given.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct SamplingRequest {
    /// None: the model's own.
    pub scheduler: Option<&'static Scheduler>,
    /// None: the sampler's default.
    pub steps: Option<i64>,
    pub eta: Option<f64>,
    pub karras: Option<bool>,
    /// None: the model's own.
    pub guidance_scale: Option<f64>,
    pub guidance_rescale: Option<f64>,
    pub cfg_plus_plus: Option<f64>,
}

/// A valid combination of sampling options for a model.
#[derive(Debug, Clone, PartialEq)]
pub struct Sampling {
    pub scheduler: &'static Scheduler,
    pub steps: i64,
    pub options: SamplerOptions,
    pub guidance: Guidance,
}

impl Default for Sampling {
    fn default() -> Self {
        let scheduler = Scheduler::ddim();
        Self {
            scheduler,
            steps: scheduler.default_steps,
            options: SamplerOptions::default(),
            guidance: Guidance::of_scale(7.5),
        }
    }
}

impl Sampling {
    /// A fresh sampler for one batch of pictures.
    pub fn sampler(&self, config: &SchedulerConfig) -> pipelines::Result<Box<dyn Sampler>> {
        self.scheduler.sampler(config, self.steps, &self.options)
    }
}

impl SamplingRequest {
    /// Checks all options. `config` is the model's noise process after `overrides`, `guidance_scale` the model's own.
    ///
    /// # Errors
    /// [`ConfigError`] for options out of range or in conflict; a pipelines error if the model's
    /// scheduler_config.json requires something that is not implemented.
    pub fn resolve(&self, config: &SchedulerConfig, overrides: Overrides, guidance_scale: f64) -> Result<Sampling> {
        let scheduler = choose(self.scheduler, config)?;
        if overrides.zero_terminal_snr == Some(true) && !scheduler.takes_zero_terminal_snr {
            return refuse(format!(
                "--zero-terminal-snr: {} does not know it; {} it",
                scheduler.name,
                those_with(|s| s.takes_zero_terminal_snr)
            ));
        }
        let options = self.options(scheduler)?;
        let guidance = self.guidance(scheduler, guidance_scale)?;
        let steps = self.steps.unwrap_or(scheduler.default_steps);
        match scheduler.sampler(config, steps, &options) {
            Ok(_) => Ok(Sampling { scheduler, steps, options, guidance }),
            Err(e @ pipelines::Error::Invalid(_)) => refuse(format!("--steps {steps}: {e}")),
            Err(e) => {
                Err(anyhow::Error::new(e).context(format!("--scheduler {} does not fit the model", scheduler.name)))
            }
        }
    }

    fn options(&self, scheduler: &Scheduler) -> Result<SamplerOptions, ConfigError> {
        if let Some(eta) = self.eta {
            // An eta of 0 does not turn off the noise of euler_a.
            if !scheduler.takes_eta {
                let able = those_with(|s| s.takes_eta);
                return Err(ConfigError(format!("--eta {eta}: {} has no eta; {able}", scheduler.name)));
            }
            let alone = SamplerOptions { eta, karras: None };
            scheduler.check_options(&alone).map_err(|e| ConfigError(format!("--{e}")))?;
        }
        let options = SamplerOptions { eta: self.eta.unwrap_or(0.0), karras: self.karras };
        scheduler.check_options(&options).map_err(|e| ConfigError(format!("--karras: {e}")))?;
        Ok(options)
    }

    fn guidance(&self, scheduler: &Scheduler, own: f64) -> Result<Guidance, ConfigError> {
        if let Some(lambda) = self.cfg_plus_plus {
            self.check_plus_plus(scheduler, lambda)
                .map_err(|e| ConfigError(format!("--cfg-plus-plus {lambda}: {e}")))?;
            return Ok(Guidance::PlusPlus { lambda });
        }
        let scale = self.guidance_scale.unwrap_or(own);
        if !(scale.is_finite() && scale >= 0.0) {
            return Err(ConfigError(format!("--guidance-scale {scale}: expected a number from 0 up")));
        }
        let rescale = self.guidance_rescale.unwrap_or(0.0);
        if !(0.0..=1.0).contains(&rescale) {
            return Err(ConfigError(format!("--guidance-rescale {rescale}: expected 0 (off) to 1")));
        }
        if rescale > 0.0 && scale == 1.0 {
            return Err(ConfigError(format!(
                "--guidance-rescale {rescale}: with --guidance-scale 1 there is no guidance to rescale; leave one of them out"
            )));
        }
        Ok(Guidance::ClassifierFree { scale, rescale })
    }

    fn check_plus_plus(&self, scheduler: &Scheduler, lambda: f64) -> Result<(), String> {
        if !(0.0..=1.0).contains(&lambda) {
            return Err("expected 0 to 1; 0.2 to 0.6 are usual".to_string());
        }
        if !scheduler.takes_renoise {
            let able = those_with(|s| s.takes_renoise);
            return Err(format!("{} has no step that noises again with another prediction; {able}", scheduler.name));
        }
        if let Some(scale) = self.guidance_scale {
            return Err(format!("it takes the place of --guidance-scale {scale}; leave one of them out"));
        }
        if let Some(rescale) = self.guidance_rescale {
            return Err(format!(
                "--guidance-rescale {rescale} belongs to the guidance that it replaces; leave one of them out"
            ));
        }
        match self.eta.filter(|eta| *eta > 0.0) {
            Some(eta) => Err(format!(
                "it noises again with the negative prediction, not with --eta {eta}; leave one of them out"
            )),
            None => Ok(()),
        }
    }
}

fn refuse<T>(text: String) -> Result<T> {
    Err(ConfigError(text).into())
}

/// The chosen sampler, or a model's own.
fn choose(choice: Option<&'static Scheduler>, config: &SchedulerConfig) -> Result<&'static Scheduler, ConfigError> {
    choice.or_else(|| Scheduler::of_class(&config.class_name)).ok_or_else(|| {
        ConfigError(format!(
            "--scheduler auto: the model's own scheduler is {} ({}), which is not built; there is: {}. \
             Choose one of them, for example --scheduler ddim",
            config.class_name,
            config.path.display(),
            scheduler_names()
        ))
    })
}
