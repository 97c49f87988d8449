//! Place of every tensor of a model in a single-file checkpoint.

use super::declaration::{Declaration, TextPart};
use crate::error::{Error, Result};
use crate::models::{AutoencoderKl, ClipTextConfig, ClipTextModel, VaeConfig};
use crate::network::Architecture;
use crate::weights::original::{Form, openclip_place, vae_place};

/// The prefix of the denoiser's tensors.
pub const NETWORK: &str = "model.diffusion_model.";
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

/// Shapes of a model's networks that determine the layout of a file.
#[derive(Debug, Clone, Copy)]
pub struct Shapes<'a> {
    pub network: &'a dyn Architecture,
    pub vae: &'a VaeConfig,
    /// One per text encoder of the layout.
    pub text: &'a [ClipTextConfig],
}

/// The places of all tensors. `prefix` chooses among the prefixes of a text encoder.
///
/// # Errors
/// A network without names in the layout.
pub fn places(
    declaration: &'static Declaration,
    shapes: Shapes,
    prefix: &dyn Fn(&TextPart) -> String,
) -> Result<Vec<Place>> {
    let no_place = |component: &str, name: &str| {
        Error::Invalid(format!("the single-file layout has no place for {component}'s {name}; use a model folder"))
    };
    let mut places = Vec::new();
    let component = declaration.network.component;
    for (name, shape) in shapes.network.parameter_shapes() {
        let stored = shapes.network.original_name(&name).ok_or_else(|| no_place(component, &name))?;
        places.push(Place { component, name, shape, stored: format!("{NETWORK}{stored}"), form: Form::Same });
    }
    for (name, shape) in AutoencoderKl::parameter_shapes(shapes.vae) {
        let place = vae_place(&name, shapes.vae.block_out_channels.len());
        let (stored, form) = place.ok_or_else(|| no_place("the VAE", &name))?;
        places.push(Place { component: "vae", name, shape, stored: format!("{VAE}{stored}"), form });
    }
    for (part, config) in declaration.text.iter().zip(shapes.text) {
        let prefix = prefix(part);
        for (name, shape) in ClipTextModel::parameter_shapes(config) {
            let place = if part.openclip { openclip_place(&name) } else { Some((name.clone(), Form::Same)) };
            let (stored, form) = place.ok_or_else(|| no_place("the text encoder", &name))?;
            places.push(Place { component: part.encoder, name, shape, stored: format!("{prefix}{stored}"), form });
        }
    }
    Ok(places)
}

#[cfg(test)]
#[path = "layout_tests.rs"]
pub(super) mod tests;
