//! The descriptions of a model's components, read and compared with each other.

use super::{Declaration, ModelFiles, relatives};
use crate::error::Result;
use crate::models::{ClipTextConfig, ConfigFile, UNetConfig, VaeConfig};
use crate::schedulers::SchedulerConfig;
use std::path::Path;

/// What the config.json of every component says.
#[derive(Debug)]
pub struct Configs {
    pub unet: UNetConfig,
    pub vae: VaeConfig,
    /// One for each text encoder of the family, in its order.
    pub text: Vec<ClipTextConfig>,
    pub scheduler: SchedulerConfig,
}

impl Configs {
    /// Reads the configurations below a model folder and checks that they fit together.
    pub(super) fn read(files: &ModelFiles, declaration: &Declaration) -> Result<Self> {
        let vae = VaeConfig::from_file(files.config("vae")?)?;
        let text = declaration.text.iter().map(|part| ClipTextConfig::from_file(files.config(part.encoder)?));
        let configs = Self {
            unet: read_unet(files.config("unet")?, &vae)?,
            text: text.collect::<Result<_>>()?,
            scheduler: match declaration.corrects_scheduler {
                true => files.scheduler()?,
                false => files.scheduler()?.uncorrected(),
            },
            vae,
        };
        configs.check_unet(&configs.unet, declaration)?;
        configs.check_vae(&configs.vae)?;
        Ok(configs)
    }

    /// Reads and checks the configuration of a UNet that is to replace the model's own.
    pub(super) fn other_unet(&self, dir: &Path, declaration: &Declaration) -> Result<UNetConfig> {
        let unet = read_unet(ConfigFile::read(dir)?, &self.vae)?;
        self.check_unet(&unet, declaration)?;
        Ok(unet)
    }

    fn check_unet(&self, unet: &UNetConfig, declaration: &Declaration) -> Result<()> {
        let latent = self.vae.latent_channels;
        for (key, channels) in [("in_channels", unet.in_channels), ("out_channels", unet.out_channels)] {
            if channels != latent {
                return Err(unet.file().conflict(key, format!("{latent}, the latent_channels of the VAE")));
            }
        }
        (declaration.check)(unet, &self.text)
    }

    /// Checks a VAE that is, or is to replace, the model's own.
    pub(super) fn check_vae(&self, vae: &VaeConfig) -> Result<()> {
        if vae.latent_channels != self.unet.in_channels {
            let expected = format!("{}, the in_channels of the UNet", self.unet.in_channels);
            return Err(vae.file().conflict("latent_channels", expected));
        }
        if (vae.in_channels, vae.out_channels) != (3, 3) {
            return Err(vae.file().conflict("in_channels", "3 in and 3 out: pictures are RGB"));
        }
        Ok(())
    }
}

fn read_unet(file: ConfigFile, vae: &VaeConfig) -> Result<UNetConfig> {
    relatives::refuse_unet(&file, vae.latent_channels)?;
    UNetConfig::from_file(file)
}
