//! A UNet that computes parts of itself twice has the loss and the gradients of one that keeps everything, bit for bit.

use crate::support;
use pipelines::lora::LoraWeights;
use pipelines::models::{AdapterSet, Recompute, UNet2DConditionModel};
use pipelines::weights::{LoadOptions, TensorFile};
use pipelines::{Conditioning, Network as _};
use std::path::Path;
use tch::{Kind, Tensor};

const CHOICES: [Recompute; 3] = [Recompute::Attention, Recompute::Blocks, Recompute::All];

/// Linear layers, convolutions of every sort, those in the resnets, and those outside the blocks.
const EVERYWHERE: [&str; 12] = [
    "to_q",
    "to_out.0",
    "proj_in",
    "net.2",
    "conv1",
    "conv_shortcut",
    "time_emb_proj",
    "conv",
    "conv_in",
    "conv_out",
    "linear_1",
    "linear_2",
];

/// The golden inputs of a UNet.
struct Inputs {
    latents: Tensor,
    timesteps: Tensor,
    conditioning: Conditioning,
}

impl Inputs {
    fn of(case: &str) -> Self {
        let file = TensorFile::open(&support::golden(&format!("{case}.safetensors"))).unwrap();
        let tensor = |name: &str| file.tensor(&format!("input.{name}")).unwrap().copy();
        let has = |name: &str| file.names().any(|n| n == format!("input.{name}"));
        let optional = |name: &str| has(name).then(|| tensor(name));
        let told = [("prompt_embeds", Some(tensor("prompt_embeds")))].into_iter();
        let told = told.chain(["pooled_prompt_embeds", "time_ids"].map(|name| (name, optional(name))));
        let conditioning = Conditioning::new(told.filter_map(|(name, tensor)| Some((name, tensor?))));
        Self { latents: tensor("latents"), timesteps: tensor("timesteps"), conditioning }
    }

    fn predict(&self, unet: &UNet2DConditionModel, set: Option<AdapterSet>) -> Tensor {
        unet.forward(&self.latents, &self.timesteps, &self.conditioning, set).unwrap()
    }

    /// The loss, and the gradients accumulated in `trained` by two backward passes.
    fn differentiated(
        &self,
        unet: &UNet2DConditionModel,
        set: Option<AdapterSet>,
        trained: &[(String, Tensor)],
    ) -> (Tensor, Vec<Tensor>) {
        trained.iter().for_each(|(_, t)| drop(t.grad().zero_()));
        let loss = || self.predict(unet, set).square().mean(Kind::Float);
        loss().backward();
        let last = loss();
        last.backward();
        (last.detach(), trained.iter().map(|(_, t)| t.grad().copy()).collect())
    }
}

fn load(case: &str, dir: &Path) -> UNet2DConditionModel {
    tch::set_num_threads(1);
    support::make_component(case, dir);
    UNet2DConditionModel::load(dir, &LoadOptions::cpu()).unwrap()
}

fn agrees(case: &str, unet: &mut UNet2DConditionModel, set: Option<AdapterSet>, trained: Vec<(String, Tensor)>) {
    let inputs = Inputs::of(case);
    for (_, tensor) in &trained {
        let _ = tensor.set_requires_grad(true);
        // A first gradient, so that there is one to accumulate into.
        (tensor.sum(Kind::Float) * 0.0).backward();
    }
    let (loss, gradients) = inputs.differentiated(unet, set, &trained);
    assert!(gradients.iter().filter(|g| g.abs().max().double_value(&[]) > 0.0).count() * 10 > trained.len() * 9);
    for choice in CHOICES {
        unet.set_recompute(choice);
        let (found, recomputed) = inputs.differentiated(unet, set, &trained);
        assert!(found.equal(&loss), "{case}, {choice:?}: the loss");
        for ((name, _), (a, b)) in trained.iter().zip(recomputed.iter().zip(&gradients)) {
            assert!(a.equal(b), "{case}, {choice:?}: the gradient of {name}");
        }
    }
}

fn agrees_in_full(case: &str) {
    let dir = tempfile::tempdir().unwrap();
    let mut unet = load(case, dir.path());
    let trained = unet.named_parameters();
    agrees(case, &mut unet, None, trained);
}

/// Two sets, as a run with `lora.init` has them: only the second one is trained and worn.
fn agrees_with_lora(case: &str, targets: &[&str]) {
    let dir = tempfile::tempdir().unwrap();
    let mut unet = load(case, dir.path());
    let targets: Vec<String> = targets.iter().map(|t| t.to_string()).collect();
    let lora = LoraWeights::init(&unet, 2, 3.0, &targets, &support::draw).unwrap();
    for (path, module) in &lora.modules {
        module.b.shallow_clone().copy_(&support::draw(&format!("b.{path}"), &module.b.size()));
    }
    lora.copy().attach(&mut unet).unwrap();
    let set = lora.attach(&mut unet).unwrap();
    agrees(case, &mut unet, Some(set), lora.trainable());
}

#[test]
fn a_full_fine_tune_of_sd15_structure_has_the_same_bits() {
    agrees_in_full("unet_sd15");
}

#[test]
fn a_full_fine_tune_of_sd21_structure_has_the_same_bits() {
    agrees_in_full("unet_sd21");
}

#[test]
fn a_full_fine_tune_of_sdxl_structure_has_the_same_bits() {
    agrees_in_full("unet_sdxl");
}

#[test]
fn a_lora_on_sd15_structure_has_the_same_bits() {
    agrees_with_lora("unet_sd15", &["to_q", "to_k", "to_v", "to_out.0"]);
}

#[test]
fn a_lora_on_sd21_structure_has_the_same_bits() {
    agrees_with_lora("unet_sd21", &["to_q", "to_k", "to_v", "to_out.0"]);
}

#[test]
fn a_lora_on_every_sort_of_layer_of_sdxl_structure_has_the_same_bits() {
    agrees_with_lora("unet_sdxl", &EVERYWHERE);
}

#[test]
fn without_gradients_nothing_is_recorded_and_the_prediction_is_the_same() {
    let dir = tempfile::tempdir().unwrap();
    let mut unet = load("unet_sd15", dir.path());
    unet.named_parameters().iter().for_each(|(_, t)| drop(t.set_requires_grad(true)));
    let inputs = Inputs::of("unet_sd15");
    let _frozen = tch::no_grad_guard();
    let kept = inputs.predict(&unet, None);
    unet.set_recompute(Recompute::All);
    let recomputed = inputs.predict(&unet, None);
    assert!(recomputed.equal(&kept) && !recomputed.requires_grad());
}

#[test]
fn float32_masters_get_their_gradients_through_a_bfloat16_forward() {
    let dir = tempfile::tempdir().unwrap();
    support::make_tiny_unet(dir.path());
    let mut unet = UNet2DConditionModel::load(dir.path(), &LoadOptions::cpu()).unwrap();
    let trained = unet.named_parameters();
    trained.iter().for_each(|(_, t)| drop(t.set_requires_grad(true)));
    let leaves: Vec<&Tensor> = trained.iter().map(|(_, t)| t).collect();
    let half = |name: &str, shape: &[i64]| support::draw(name, shape).to_kind(Kind::BFloat16);
    let conditioning = Conditioning::of_prompt(half("prompt", &[2, 3, 12]));
    let mut gradients = |recompute| {
        unet.set_recompute(recompute);
        let timesteps = Tensor::from_slice(&[10_i64, 900]);
        let made = unet.forward(&half("latents", &[2, 4, 8, 8]), &timesteps, &conditioning, None).unwrap();
        Tensor::run_backward(&[made.to_kind(Kind::Float).square().mean(Kind::Float)], &leaves, false, false)
    };
    let kept = gradients(Recompute::None);
    for choice in CHOICES {
        let recomputed = gradients(choice);
        assert!(recomputed.iter().all(|g| g.kind() == Kind::Float));
        assert!(recomputed.iter().zip(&kept).all(|(a, b)| a.equal(b)), "{choice:?}");
    }
}
