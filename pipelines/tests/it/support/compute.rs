//! A network's outputs and gradients from named inputs: golden tests and `examples/parity_dump.rs` share it.

use pipelines::Conditioning;
use pipelines::Network as _;
use pipelines::lora::{Lora, LoraTargets, LoraWeights, Network};
use pipelines::models::{AutoencoderKl, ClipTextModel, UNet2DConditionModel};
use pipelines::weights::{LoadOptions, TensorFile};
use std::collections::BTreeMap;
use std::path::Path;
use tch::{Reduction, Tensor};

pub type Tensors = BTreeMap<String, Tensor>;

/// What a network made: outputs by name, and gradients of the summed mean squared errors by parameter.
pub struct Computed {
    pub outputs: Tensors,
    pub gradients: Tensors,
}

/// The tensors of a file below `prefix`.
pub fn read(file: &TensorFile, prefix: &str) -> Tensors {
    let names = file.names().filter_map(|name| Some((name.strip_prefix(prefix)?.to_string(), name)));
    names.map(|(short, name)| (short, file.tensor(name).unwrap())).collect()
}

/// Loads the component in `dir` and computes what the inputs `input.*` and targets `target.*` of `file` ask for; with a
/// LoRA, gradients are those of the LoRA.
pub fn compute(kind: &str, dir: &Path, file: &TensorFile, lora: Option<&Path>) -> Computed {
    let options = LoadOptions::cpu();
    let (given, wanted) = (read(file, "input."), read(file, "target."));
    let (parameters, outputs) = match kind {
        "unet" => {
            let mut unet = UNet2DConditionModel::load(dir, &options).unwrap();
            let targets = LoraTargets::new(unet.config(), &[]);
            let lora = lora.map(|path| Lora::read(path, &targets).unwrap().take(Network::Unet));
            let parameters = lora.as_ref().map_or_else(|| unet.named_parameters(), LoraWeights::trainable);
            let set = lora.as_ref().map(|lora| lora.attach(&mut unet).unwrap());
            let tracked = track(parameters);
            let told = ["prompt_embeds", "pooled_prompt_embeds", "time_ids"];
            let told = told.into_iter().filter_map(|name| Some((name, given.get(name)?.shallow_clone())));
            let conditioning = Conditioning::new(told);
            let made = unet.forward(&given["latents"], &given["timesteps"], &conditioning, set).unwrap();
            (tracked, vec![("prediction", made)])
        }
        "vae" => {
            let vae = AutoencoderKl::load(dir, &options).unwrap();
            let tracked = track(vae.named_parameters());
            let moments = vae.encode(&given["images"]).unwrap();
            let image = vae.decode(&given["latents"]).unwrap();
            (tracked, vec![("mean", moments.mean), ("std", moments.std), ("image", image)])
        }
        _ => {
            let clip = ClipTextModel::load(dir, &options).unwrap();
            let tracked = track(clip.named_parameters());
            let mut made = clip.forward(&given["ids"], None).unwrap();
            let before_last = made.hidden_states.swap_remove(made.hidden_states.len() - 2);
            let rest = [("last_hidden_state", made.last_hidden_state), ("pooled", made.pooled)];
            (tracked, [("before_last", before_last)].into_iter().chain(rest).collect())
        }
    };
    let outputs: Tensors = outputs.into_iter().map(|(name, value)| (name.to_string(), value)).collect();
    let gradients = if wanted.is_empty() { Tensors::new() } else { differentiate(&outputs, &wanted, parameters) };
    Computed { outputs: outputs.into_iter().map(|(name, value)| (name, value.detach())).collect(), gradients }
}

fn track(parameters: Vec<(String, Tensor)>) -> Vec<(String, Tensor)> {
    parameters.into_iter().map(|(name, tensor)| (name, tensor.set_requires_grad(true))).collect()
}

fn differentiate(outputs: &Tensors, wanted: &Tensors, parameters: Vec<(String, Tensor)>) -> Tensors {
    let errors = wanted.iter().map(|(name, target)| outputs[name].mse_loss(target, Reduction::Mean));
    let loss = errors.reduce(|sum, error| sum + error).unwrap();
    let leaves: Vec<&Tensor> = parameters.iter().map(|(_, tensor)| tensor).collect();
    let gradients = Tensor::run_backward(&[loss], &leaves, false, false);
    let gradients = parameters.iter().zip(gradients).map(|((name, leaf), gradient)| {
        let gradient = if gradient.defined() { gradient } else { leaf.zeros_like() };
        (name.clone(), gradient)
    });
    gradients.collect()
}
