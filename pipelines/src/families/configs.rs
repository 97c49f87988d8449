//! The descriptions of a model's components, read and compared with each other.

use super::declaration::Declaration;
use super::files::ModelFiles;
use crate::error::Result;
use crate::models::{ClipTextConfig, ConfigFile, VaeConfig};
use crate::network::Architecture;
use crate::schedulers::SchedulerConfig;
use std::sync::Arc;

/// The config.json of every component.
#[derive(Debug)]
pub struct Configs {
    pub network: Arc<dyn Architecture>,
    pub vae: VaeConfig,
    /// One per text encoder of the family, in order.
    pub text: Vec<ClipTextConfig>,
    pub scheduler: SchedulerConfig,
}

/// Latents of a model's VAE.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Latent {
    pub channels: i64,
    /// Pixels along a side per latent.
    pub factor: i64,
    /// latents = (encoded - shift) scale
    pub scale: f64,
    pub shift: f64,
}

impl Latent {
    /// `[C, h, w]` of a picture of this size in pixels.
    pub fn shape(&self, height: i64, width: i64) -> [i64; 3] {
        [self.channels, height / self.factor, width / self.factor]
    }
}

impl Configs {
    /// Reads the configurations below a model folder and checks that they fit together.
    pub(super) fn read(files: &ModelFiles, declaration: &Declaration) -> Result<Self> {
        let vae = VaeConfig::from_file(files.config("vae")?)?;
        let text = declaration.text.iter().map(|part| ClipTextConfig::from_file(files.config(part.encoder)?));
        let text = text.collect::<Result<Vec<_>>>()?;
        let network = read_network(files.config(declaration.network.component)?, declaration, &vae, &text)?;
        let scheduler = match declaration.corrects_scheduler {
            true => files.scheduler()?,
            false => files.scheduler()?.uncorrected(),
        };
        let configs = Self { network, vae, text, scheduler };
        configs.check_vae(&configs.vae)?;
        Ok(configs)
    }

    /// Reads and checks the description of a network that replaces the model's own.
    pub(super) fn other_network(&self, file: ConfigFile, declaration: &Declaration) -> Result<Arc<dyn Architecture>> {
        read_network(file, declaration, &self.vae, &self.text)
    }

    /// Checks the model's own VAE or its replacement.
    pub(super) fn check_vae(&self, vae: &VaeConfig) -> Result<()> {
        if vae.latent_channels != self.network.latent_channels() {
            let expected = format!("{}, the in_channels of the UNet", self.network.latent_channels());
            return Err(vae.file().conflict("latent_channels", expected));
        }
        if (vae.in_channels, vae.out_channels) != (3, 3) {
            return Err(vae.file().conflict("in_channels", "3 in and 3 out: pictures are RGB"));
        }
        Ok(())
    }
}

fn read_network(
    file: ConfigFile,
    declaration: &Declaration,
    vae: &VaeConfig,
    text: &[ClipTextConfig],
) -> Result<Arc<dyn Architecture>> {
    (declaration.network.refuse)(&file, vae.latent_channels)?;
    let network = (declaration.network.describe)(file)?;
    let latent = vae.latent_channels;
    for key in ["in_channels", "out_channels"] {
        if network.file().size(key, Some(latent))? != latent {
            return Err(network.file().conflict(key, format!("{latent}, the latent_channels of the VAE")));
        }
    }
    (declaration.check)(&*network, text)?;
    Ok(network)
}
