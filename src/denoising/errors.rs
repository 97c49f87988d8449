//! Errors of a model on the pictures of items.

use super::models::NamedModel;
use super::opened::{Opened, Options, Space};
use crate::data::items::Item;
use crate::networks::mean_square;
use crate::objectives::numbers;
use crate::progress::{Progress, Stop};
use anyhow::{Result, bail};

/// Errors of a model in the space of margins. All pictures of an item share noise levels and noise.
pub struct Errors {
    /// `[items][pictures][draws]`, with the items' prompts.
    pub prompted: Vec<Vec<Vec<f64>>>,
    /// Errors with the empty prompt, if asked for.
    pub unprompted: Option<Vec<Vec<Vec<f64>>>>,
    pub space: Space,
}

/// Measures a model. `unprompted`: with the empty prompt too.
///
/// # Errors
/// Files that cannot be read, an error that is not finite; [`crate::progress::Stopped`] after a signal.
pub fn errors(
    model: &NamedModel,
    items: &[Item],
    unprompted: bool,
    options: Options,
    progress: &dyn Progress,
    stop: &Stop,
) -> Result<Errors> {
    let opened = Opened::open(model, items, options, progress, stop)?;
    if let Some((path, reason)) = opened.unreadable().iter().next() {
        bail!("{path}: {reason}; make the picture again, or remove its row");
    }
    let (mut with, mut without) = (Vec::new(), Vec::new());
    progress.begin("label", 0, items.len() as u64);
    for (done, item) in items.iter().enumerate() {
        stop.check()?;
        with.push(of_item(&opened, &model.name, item)?);
        if unprompted {
            // An equal id: equal noise.
            without.push(of_item(&opened, &model.name, &Item { prompt: String::new(), ..item.clone() })?);
        }
        progress.advance(done as u64 + 1, &model.name);
    }
    progress.end();
    Ok(Errors { prompted: with, unprompted: unprompted.then_some(without), space: opened.space })
}

/// `[pictures][draws]`. One picture at a time, so that memory does not grow with their number.
fn of_item(opened: &Opened, model: &str, item: &Item) -> Result<Vec<Vec<f64>>> {
    let _no_graph = tch::no_grad_guard();
    let of_picture = |picture| {
        let one = Item { images: vec![picture], ..item.clone() };
        let Some(batch) = opened.batch(&one)? else { bail!("{:?}: a picture was not encoded", item.prompt) };
        let noised = opened.noised(&batch);
        let errors = mean_square(&noised.residuals(&opened.denoiser, opened.adapters)?);
        let errors = numbers(&opened.of_margins(&errors, &noised.levels));
        if let Some(error) = errors.iter().find(|error| !error.is_finite()) {
            let picture = &one.images[0];
            bail!("the error of {model:?} on {picture} is {error}; look at the picture, or at the weights");
        }
        Ok(errors)
    };
    item.images.iter().cloned().map(of_picture).collect()
}
