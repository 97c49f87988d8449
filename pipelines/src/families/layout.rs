//! Where every tensor of a model lies in a single-file checkpoint.

use super::Family;
use super::standard::Standard;
use crate::error::{Error, Result};
use crate::models::{AutoencoderKl, ClipTextConfig, ClipTextModel, UNet2DConditionModel, UNetConfig, VaeConfig};
use crate::weights::original::{Form, UNetLayout, openclip_place, unet_name, vae_place};

/// The prefix of the UNet's tensors.
pub const UNET: &str = "model.diffusion_model.";
/// The prefix of the VAE's tensors.
pub const VAE: &str = "first_stage_model.";

/// A tensor of the diffusers layout and its place in a file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Place {
    /// The component, `unet` for example.
    pub component: &'static str,
    /// The name in the component.
    pub name: String,
    pub shape: Vec<i64>,
    /// The name in the file.
    pub stored: String,
    pub form: Form,
}

/// How a text encoder lies in a file.
#[derive(Debug)]
pub struct TextLayout {
    pub component: &'static str,
    /// Prefixes that are in use; the first is the one to write.
    pub prefixes: &'static [&'static str],
    /// OpenCLIP's names and fused projections; else transformers' own.
    pub openclip: bool,
}

const SD1: &[TextLayout] =
    &[TextLayout { component: "text_encoder", prefixes: &["cond_stage_model.transformer."], openclip: false }];
const SD2: &[TextLayout] = &[TextLayout {
    component: "text_encoder",
    prefixes: &["cond_stage_model.model.", "conditioner.embedders.0.model."],
    openclip: true,
}];
const SDXL: &[TextLayout] = &[
    TextLayout { component: "text_encoder", prefixes: &["conditioner.embedders.0.transformer."], openclip: false },
    TextLayout { component: "text_encoder_2", prefixes: &["conditioner.embedders.1.model."], openclip: true },
];

impl Standard {
    pub fn of(family: Family) -> Self {
        match family {
            Family::Sd1 => Self::Sd1,
            Family::Sd2 | Family::Sd2V => Self::Sd2,
            Family::Sdxl | Family::SdxlV => Self::Sdxl,
        }
    }

    /// The text encoders of a file.
    pub fn text(self) -> &'static [TextLayout] {
        match self {
            Self::Sd1 => SD1,
            Self::Sd2 => SD2,
            Self::Sdxl => SDXL,
        }
    }
}

/// The shapes of a model's networks, as far as a file's layout follows from them.
#[derive(Debug, Clone, Copy)]
pub struct Shapes<'a> {
    pub unet: &'a UNetConfig,
    pub vae: &'a VaeConfig,
    /// One for each text encoder of the layout.
    pub text: &'a [ClipTextConfig],
}

/// The places of all tensors. `prefix` chooses among the prefixes of a text encoder.
///
/// # Errors
/// A network that the layout has no names for.
pub fn places(standard: Standard, shapes: Shapes, prefix: &dyn Fn(&TextLayout) -> String) -> Result<Vec<Place>> {
    let no_place = |component: &str, name: &str| {
        Error::Invalid(format!("the single-file layout has no place for {component}'s {name}; use a model folder"))
    };
    let unet = UNetLayout::of(&shapes.unet.layers_per_block, &shapes.unet.up_attention);
    let unet = unet.ok_or_else(|| no_place("the UNet", "levels with different numbers of layers"))?;
    let mut places = Vec::new();
    for (name, shape) in UNet2DConditionModel::parameter_shapes(shapes.unet) {
        let stored = unet_name(&name, &unet).ok_or_else(|| no_place("the UNet", &name))?;
        places.push(Place { component: "unet", name, shape, stored: format!("{UNET}{stored}"), form: Form::Same });
    }
    for (name, shape) in AutoencoderKl::parameter_shapes(shapes.vae) {
        let place = vae_place(&name, shapes.vae.block_out_channels.len());
        let (stored, form) = place.ok_or_else(|| no_place("the VAE", &name))?;
        places.push(Place { component: "vae", name, shape, stored: format!("{VAE}{stored}"), form });
    }
    for (layout, config) in standard.text().iter().zip(shapes.text) {
        let prefix = prefix(layout);
        for (name, shape) in ClipTextModel::parameter_shapes(config) {
            let place = if layout.openclip { openclip_place(&name) } else { Some((name.clone(), Form::Same)) };
            let (stored, form) = place.ok_or_else(|| no_place("the text encoder", &name))?;
            places.push(Place { component: layout.component, name, shape, stored: format!("{prefix}{stored}"), form });
        }
    }
    Ok(places)
}

#[cfg(test)]
#[path = "layout_tests.rs"]
pub(super) mod tests;
