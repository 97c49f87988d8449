//! A UNet as a weighted sum of others (docs/methods.md 6), for the sides of guidance.

use super::combination::{Change, Combination, Difference};
use super::declaration::DIFFUSERS;
use super::denoiser::Denoiser;
use super::folder::ModelFolder;
use super::model_weights::ModelWeights;
use crate::error::{Error, Result};
use crate::lora::{Lora, Network};
use crate::network::first_difference;
use crate::weights::{LoadOptions, component_files};
use std::path::{Path, PathBuf};

/// One summand of a UNet: a factor and its UNet.
#[derive(Debug, Clone, PartialEq)]
pub struct UnetTerm {
    /// None: the model's own.
    pub dir: Option<PathBuf>,
    pub factor: f64,
}

impl ModelFolder {
    /// The weight files of a UNet folder, or of the model's own UNet.
    pub fn unet_files(&self, dir: Option<&Path>) -> Result<Vec<PathBuf>> {
        match dir {
            Some(dir) => component_files(dir, DIFFUSERS, None),
            None => {
                let part = self.declaration().network.component;
                let own = self.weight_files().into_iter().filter(|(component, _)| *component == part);
                Ok(own.map(|(_, file)| file).collect())
            }
        }
    }

    /// Refuses a UNet folder of another architecture than the model's own: sums and differences of the two have no
    /// meaning.
    pub fn check_same_network(&self, dir: &Path) -> Result<()> {
        let (config, _) = self.network_parts(Some(dir))?;
        match first_difference(self.network().shape(), config.shape()) {
            None => Ok(()),
            Some((key, own, found)) => {
                let problem = format!("this is another network than the model's own UNet: {key} is {found}, not {own}");
                Err(Error::unusable(
                    config.file().path(),
                    problem,
                    "use a UNet that was fine-tuned from the same model",
                ))
            }
        }
    }

    /// The UNet `sum_i factor_i U_i` of factors that add up to 1, with the model's noise schedule: the
    /// [`Combination`] of `merge`, rounded once. A single term of factor 1 is loaded unchanged.
    ///
    /// # Errors
    /// A term of another architecture or with values that are not finite, no terms, factors of another sum.
    pub fn load_mixed_denoiser(&self, terms: &[UnetTerm], options: &LoadOptions) -> Result<Denoiser> {
        if let [UnetTerm { dir, factor: 1.0 }] = terms {
            return self.load_denoiser(dir.as_deref(), options);
        }
        let sum: f64 = terms.iter().map(|term| term.factor).sum();
        if (sum - 1.0).abs() > 1e-6 {
            return Err(Error::Invalid(format!("a sum of UNets: the factors add up to {sum}, expected 1")));
        }
        let own = ModelWeights::of_unet_for(self, None)?;
        let mut others = Vec::new();
        for UnetTerm { dir, factor } in terms {
            if let Some(dir) = dir {
                self.check_same_network(dir)?;
                others.push((ModelWeights::of_unet_for(self, Some(dir))?, *factor));
            }
        }
        let differences = others.iter().map(|(to, weight)| Difference { to, from: None, weight: *weight }).collect();
        let sum = Combination::new(&own, differences, Lora::joined(Vec::new())?)?;
        let denoiser = self.load_denoiser(None, options)?;
        let _frozen = tch::no_grad_guard();
        for (name, mut parameter) in denoiser.network.named_parameters() {
            let weight = own.tensor(Network::Unet, &name)?;
            parameter.f_copy_(&sum.changed(Network::Unet, &name, weight)?)?;
        }
        Ok(denoiser)
    }
}
