//! LoRA weights: attached, trained, written, read. What diffusers makes of the files: `tools/parity/models.py`.

use crate::support;
use pipelines::families::family_named;
use pipelines::lora::{Lora, LoraTargets, LoraWeights, Network};
use pipelines::models::{AdapterSet, UNet2DConditionModel};
use pipelines::weights::{LoadOptions, TensorFile, write_safetensors};
use pipelines::{Conditioning, Network as _};
use std::path::Path;
use tch::{Device, Kind, Tensor};

const TO_Q: &str = "down_blocks.1.attentions.0.transformer_blocks.0.attn1.to_q";

/// Linear layers, matrices stored as 1x1 convolutions, 3x3 and strided convolutions, and those outside the blocks.
const EVERY_KIND: [&str; 12] = [
    "to_v",
    "proj_out",
    "net.2",
    "conv1",
    "conv2",
    "conv_shortcut",
    "time_emb_proj",
    "conv",
    "conv_in",
    "conv_out",
    "linear_1",
    "to_out.0",
];

fn tiny_unet(dir: &Path) -> UNet2DConditionModel {
    support::make_tiny_unet(dir);
    UNet2DConditionModel::load(dir, &LoadOptions::cpu()).unwrap()
}

fn targets(names: &[&str]) -> Vec<String> {
    names.iter().map(|name| (*name).to_string()).collect()
}

/// A LoRA whose second matrices are drawn too, so that it changes the network.
fn drawn_lora(unet: &UNet2DConditionModel, names: &[&str], alpha: f64) -> LoraWeights {
    let lora = LoraWeights::init(unet, 2, alpha, &targets(names), &support::draw).unwrap();
    for (path, module) in &lora.modules {
        module.b.shallow_clone().copy_(&support::draw(&format!("b.{path}"), &module.b.size()));
    }
    lora
}

fn predict(unet: &UNet2DConditionModel, set: Option<AdapterSet>) -> Tensor {
    let conditioning = Conditioning::of_prompt(support::draw("prompt", &[2, 3, 12]));
    let latents = support::draw("latents", &[2, 4, 8, 8]);
    unet.forward(&latents, &Tensor::from_slice(&[10_i64, 900]), &conditioning, set).unwrap()
}

#[test]
fn a_network_with_its_lora_off_is_bit_equal_to_one_without() {
    let dir = tempfile::tempdir().unwrap();
    let mut unet = tiny_unet(dir.path());
    let bare = predict(&unet, None);
    let lora = drawn_lora(&unet, &["to_q", "to_out.0", "proj_in"], 2.0);
    let set = lora.attach(&mut unet).unwrap();
    assert!(predict(&unet, None).equal(&bare));
    assert!(!predict(&unet, Some(set)).allclose(&bare, 1e-3, 1e-3, false));
}

#[test]
fn a_new_lora_changes_nothing_and_is_drawn_by_the_names_of_its_modules() {
    let dir = tempfile::tempdir().unwrap();
    let mut unet = tiny_unet(dir.path());
    let lora = LoraWeights::init(&unet, 3, 3.0, &targets(&["to_q", "to_k"]), &support::draw).unwrap();
    assert!(lora.modules[TO_Q].a.equal(&support::draw(&format!("unet.{TO_Q}"), &[3, 16])));
    let bare = predict(&unet, None);
    let set = lora.attach(&mut unet).unwrap();
    assert!(predict(&unet, Some(set)).equal(&bare));
    // down, mid, and two layers on the way up; self- and cross-attention; q and k
    assert_eq!(lora.modules.len(), 4 * 2 * 2);
}

#[test]
fn an_adapter_equals_its_product_added_to_the_weight() {
    let (dir, merged) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let mut unet = tiny_unet(dir.path());
    let lora = drawn_lora(&unet, &EVERY_KIND, 6.0);
    let set = lora.attach(&mut unet).unwrap();
    let lora = Lora::of_unet(lora);
    let mut values = Vec::new();
    for (name, weight) in unet.named_parameters() {
        let merged = lora.merged(Network::Unet, &name, weight).unwrap();
        values.push((name, merged));
    }
    unet.save(merged.path(), Kind::Float, Some(&values)).unwrap();
    let merged = UNet2DConditionModel::load(merged.path(), &LoadOptions::cpu()).unwrap();
    assert!(predict(&unet, Some(set)).allclose(&predict(&merged, None), 1e-4, 1e-4, false));
}

#[test]
fn two_sets_are_told_apart_and_share_their_tensors_with_the_trainer() {
    let dir = tempfile::tempdir().unwrap();
    let mut unet = tiny_unet(dir.path());
    let policy = drawn_lora(&unet, &["to_q"], 2.0);
    let reference = policy.copy();
    let (policy_set, reference_set) = (policy.attach(&mut unet).unwrap(), reference.attach(&mut unet).unwrap());
    let before = predict(&unet, Some(policy_set));
    assert!(before.equal(&predict(&unet, Some(reference_set))));
    for (name, mut tensor) in policy.trainable() {
        assert!(name.starts_with("unet.") && name.contains(".lora_"));
        let _ = tensor.g_mul_scalar_(1.5);
        let _ = tensor.set_requires_grad(true);
    }
    assert!(!predict(&unet, Some(policy_set)).allclose(&before, 1e-4, 1e-4, false));
    assert!(predict(&unet, Some(policy_set)).requires_grad());
    assert!(predict(&unet, Some(reference_set)).equal(&before));
    assert!(!predict(&unet, None).requires_grad());
}

#[test]
fn what_is_written_reads_back_bit_equal_in_both_namings() {
    let dir = tempfile::tempdir().unwrap();
    let unet = tiny_unet(dir.path());
    let targets = LoraTargets::new(unet.config(), &[]);
    for alpha in [2.0, 5.0] {
        let layers = ["to_q", "to_out.0", "proj_in", "net.0.proj", "conv1", "conv_shortcut", "time_emb_proj", "conv"];
        let lora = Lora::of_unet(drawn_lora(&unet, &layers, alpha));
        let (peft, kohya) = (dir.path().join("peft.safetensors"), dir.path().join("kohya.safetensors"));
        lora.write_peft(&peft, Kind::Float).unwrap();
        lora.write_kohya(&kohya, Kind::Float, &targets, family_named("sd1").unwrap().lora_header()).unwrap();
        let says_alpha = TensorFile::open(&peft).unwrap().metadata().contains_key("lora_adapter_metadata");
        assert_eq!(says_alpha, alpha != 2.0);
        for path in [&peft, &kohya] {
            assert_equal(&Lora::read(path, &targets).unwrap(), &lora);
        }
        let bytes = std::fs::read(&kohya).unwrap();
        lora.write_kohya(&kohya, Kind::Float, &targets, family_named("sd1").unwrap().lora_header()).unwrap();
        assert_eq!(bytes, std::fs::read(&kohya).unwrap());
    }
}

fn assert_equal(a: &Lora, b: &Lora) {
    let networks = |lora: &Lora| lora.networks().map(|(network, w)| (network, w.modules.len())).collect::<Vec<_>>();
    assert_eq!(networks(a), networks(b));
    for (network, weights) in a.networks() {
        for (name, module) in &weights.modules {
            let other = &b.network(network).unwrap().modules[name];
            let equal = module.a.equal(&other.a) && module.b.equal(&other.b) && module.scale == other.scale;
            assert!(equal, "{}.{name}", network.name());
        }
    }
}

#[test]
fn a_target_that_matches_nothing_is_refused_with_those_that_are_there() {
    let dir = tempfile::tempdir().unwrap();
    let unet = tiny_unet(dir.path());
    let error =
        LoraWeights::init(&unet, 2, 2.0, &targets(&["to_q", "q_proj"]), &support::draw).unwrap_err().to_string();
    assert!(error.contains("\"q_proj\" matches no layer"), "{error}");
    assert!(error.contains("to_k") && error.contains("to_out.0"), "{error}");
}

#[test]
fn files_that_are_no_plain_lora_of_this_unet_are_refused_by_name() {
    let dir = tempfile::tempdir().unwrap();
    let unet = tiny_unet(dir.path());
    let targets = LoraTargets::new(unet.config(), &[]);
    let path = dir.path().join("lora.safetensors");
    let message = |tensors: &[(String, &[i64])]| {
        let zeros = |shape: &[i64]| Tensor::zeros(shape, (Kind::Float, Device::Cpu));
        let tensors: Vec<_> = tensors.iter().map(|(name, shape)| (name.clone(), zeros(shape))).collect();
        write_safetensors(&path, &tensors, &[]).unwrap();
        let message = Lora::read(&path, &targets).unwrap_err().to_string();
        assert!(message.contains("lora.safetensors"), "{message}");
        message
    };
    let pair = |a: &'static [i64], b: &'static [i64]| {
        vec![(format!("unet.{TO_Q}.lora_A.weight"), a), (format!("unet.{TO_Q}.lora_B.weight"), b)]
    };
    let other = message(&pair(&[4, 320], &[320, 4]));
    assert!(
        other.contains("another architecture") && other.contains("[16, 16]") && other.contains("[4, 320]"),
        "{other}"
    );
    let mut alpha = pair(&[4, 16], &[16, 4]);
    alpha.push((format!("unet.{TO_Q}.alpha"), &[]));
    assert!(message(&alpha).contains("fold alpha / rank into lora_B"));
    let mut dora = pair(&[4, 16], &[16, 4]);
    dora.push((format!("unet.{TO_Q}.lora_magnitude_vector"), &[16]));
    assert!(message(&dora).contains("DoRA"));
    let mut text = pair(&[4, 16], &[16, 4]);
    text.push(("text_encoder.text_model.encoder.layers.0.self_attn.q_proj.lora_A.weight".into(), &[4, 16]));
    assert!(message(&text).contains("a UNet alone has none"));
    assert!(message(&pair(&[4, 16], &[16, 4])[..1]).contains("only one of its two matrices"));
    let unknown = vec![
        ("unet.down_blocks.7.to_q.lora_A.weight".into(), &[4, 16][..]),
        ("unet.down_blocks.7.to_q.lora_B.weight".into(), &[16, 4][..]),
    ];
    assert!(message(&unknown).contains("down_blocks.7.to_q, which is no layer of this model"));
}
