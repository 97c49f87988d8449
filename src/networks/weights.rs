//! Weights of the policy: export, temporary replacement, restore.

use super::policy::Policy;
use anyhow::{Result, bail};
use pipelines::lora::{Lora, LoraWeights, Network};
use std::collections::HashMap;
use std::path::Path;
use tch::Tensor;

pub const LORA_FILE: &str = "pytorch_lora_weights.safetensors";

/// Writes the trained weights for users: `unet/`, or the LoRA file. `values` replaces the weights (EMA).
pub fn write_weights(policy: &Policy, dir: &Path, values: Option<&[(String, Tensor)]>, suffix: &str) -> Result<()> {
    match &policy.lora {
        None => policy.denoiser.network.save(&dir.join(format!("unet{suffix}")), policy.kind(), values)?,
        Some(_) => whole_lora(policy, values).write_peft(
            &dir.join(LORA_FILE.replace(".safetensors", &format!("{suffix}.safetensors"))),
            policy.kind(),
        )?,
    }
    Ok(())
}

/// The LoRA of a run for users: trained matrices, or `values` instead (EMA), and the text encoder part. Empty in a
/// full fine-tune.
pub fn whole_lora(policy: &Policy, values: Option<&[(String, Tensor)]>) -> Lora {
    let unet = policy.lora.as_ref().map(|lora| (Network::Unet, with_values(lora, values)));
    let text = policy.text_lora.networks().map(|(network, weights)| (network, weights.copy()));
    Lora::of_networks(unet.into_iter().chain(text))
}

fn with_values(lora: &LoraWeights, values: Option<&[(String, Tensor)]>) -> LoraWeights {
    let mut out = lora.copy();
    let values: HashMap<&str, &Tensor> = values.unwrap_or(&[]).iter().map(|(n, t)| (n.as_str(), t)).collect();
    for (path, module) in &mut out.modules {
        if let Some(a) = values.get(format!("unet.{path}.lora_A.weight").as_str()) {
            module.a = a.copy();
        }
        if let Some(b) = values.get(format!("unet.{path}.lora_B.weight").as_str()) {
            module.b = b.copy();
        }
    }
    out
}

/// Copies the stored tensor `name` into `target`.
pub fn copy_into(target: &mut Tensor, stored: &HashMap<String, Tensor>, name: &str) -> Result<()> {
    let Some(value) = stored.get(name) else { bail!("the checkpoint lacks {name}: expected it beside the others") };
    if value.size() != target.size() {
        bail!("the checkpoint's {name} has shape {:?}, expected {:?}", value.size(), target.size());
    }
    let _frozen = tch::no_grad_guard();
    target.f_copy_(&value.to_device(target.device()))?;
    Ok(())
}

/// Replaces the network's weights by `values` during its lifetime; restores them when dropped.
pub struct Swapped<'a> {
    trainable: &'a [(String, Tensor)],
    own: Vec<Tensor>,
}

impl<'a> Swapped<'a> {
    pub fn new(trainable: &'a [(String, Tensor)], values: &[(String, Tensor)]) -> Self {
        let _frozen = tch::no_grad_guard();
        let own = trainable.iter().map(|(_, t)| t.detach().copy()).collect();
        for ((_, t), (_, value)) in trainable.iter().zip(values) {
            t.shallow_clone().copy_(value);
        }
        Self { trainable, own }
    }
}

impl Drop for Swapped<'_> {
    fn drop(&mut self) {
        let _frozen = tch::no_grad_guard();
        for ((_, t), own) in self.trainable.iter().zip(&self.own) {
            t.shallow_clone().copy_(own);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn swapped_weights_come_back_when_dropped() {
        let trainable = vec![("w".to_string(), Tensor::from_slice(&[1.0f32, 2.0]))];
        let ema = vec![("w".to_string(), Tensor::from_slice(&[5.0f32, 6.0]))];
        {
            let _swapped = Swapped::new(&trainable, &ema);
            assert_eq!(trainable[0].1.double_value(&[0]), 5.0);
        }
        assert_eq!(trainable[0].1.double_value(&[1]), 2.0);
    }
}
