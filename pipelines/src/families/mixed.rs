//! A UNet as a weighted sum of others (docs/methods.md 6), and the sides of guidance that such sums are.

use super::{Denoiser, ModelFolder};
use crate::error::{Error, Result};
use crate::models::UNet2DConditionModel;
use crate::weights::{LoadOptions, WeightStore, check_store, component_files};
use std::path::{Path, PathBuf};
use tch::{Device, Kind, Tensor};

/// One summand of a UNet: a factor and the UNet it is on.
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
            Some(dir) => component_files(dir, "diffusion_pytorch_model", None),
            None => {
                let own = self.weight_files().into_iter().filter(|(component, _)| *component == "unet");
                Ok(own.map(|(_, file)| file).collect())
            }
        }
    }

    /// Refuses a UNet folder that describes another network than the model's own: sums and differences of the two mean
    /// nothing.
    pub fn check_same_network(&self, dir: &Path) -> Result<()> {
        let (config, _) = self.unet_parts(Some(dir))?;
        match self.unet().difference(&config) {
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

    /// The UNet `sum_i factor_i U_i` with the model's noise schedule. The sum is taken in float64, tensor by tensor, and
    /// rounded once; a single term of factor 1 is loaded as it is.
    ///
    /// # Errors
    /// A term of another architecture, and no terms at all.
    pub fn load_mixed_denoiser(&self, terms: &[UnetTerm], options: &LoadOptions) -> Result<Denoiser> {
        let Some(first) = terms.first() else {
            return Err(Error::Invalid("a UNet that is a sum of none: give at least one term".to_string()));
        };
        if terms.len() == 1 && first.factor == 1.0 {
            return self.load_denoiser(first.dir.as_deref(), options);
        }
        let shapes = UNet2DConditionModel::parameter_shapes(self.unet());
        let mut stores: Vec<(WeightStore, f64)> = Vec::new();
        for term in terms {
            if let Some(dir) = &term.dir {
                self.check_same_network(dir)?;
            }
            let (_, store) = self.unet_parts(term.dir.as_deref())?;
            check_store(&store, &shapes)?;
            stores.push((store, term.factor));
        }
        let denoiser = self.load_denoiser(first.dir.as_deref(), options)?;
        let _frozen = tch::no_grad_guard();
        for (name, mut parameter) in denoiser.unet.named_parameters() {
            let mut sum = Tensor::f_zeros(parameter.size(), (Kind::Double, Device::Cpu))?;
            for (store, factor) in &stores {
                let term = store.tensor(&name)?.f_view(parameter.size().as_slice())?.f_to_kind(Kind::Double)?;
                sum = sum.f_add(&term.f_mul_scalar(*factor)?)?;
            }
            parameter.f_copy_(&sum)?;
        }
        Ok(denoiser)
    }
}
