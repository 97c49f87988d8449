//! Kinds of models by the names of their weights, for messages.

/// Starts of names, most telling first.
const KINDS: [(&str, &str); 26] = [
    ("blip.", "ImageReward, whose network is a BLIP: take the scorer \"imagereward\""),
    ("visual_encoder.", "a BLIP"),
    ("qformer.", "a BLIP-2"),
    ("language_model.", "a vision language model"),
    ("model.layers.", "a language model"),
    ("vision_model.head.", "a SigLIP"),
    ("logit_bias", "a SigLIP"),
    ("text_decoder.", "a BLIP or a CoCa"),
    ("visual.trunk.", "an OpenCLIP model with a vision tower of timm"),
    ("visual.layer1.", "a CLIP with a ResNet"),
    ("text.transformer.embeddings.", "an OpenCLIP model with another text tower"),
    ("down_blocks.", "a UNet of diffusers"),
    ("model.diffusion_model.", "a checkpoint of Stable Diffusion"),
    ("encoder.down", "a VAE"),
    ("decoder.", "a VAE"),
    ("lora_", "a LoRA"),
    ("unet.", "a LoRA"),
    ("t_embedder.", "SPO's step-aware preference model"),
    ("model.t_embedder.", "SPO's step-aware preference model"),
    ("cross_model.", "MPS: take the scorer \"mps\""),
    ("layers.", "a head of the aesthetic predictor: its name is head.safetensors"),
    ("dw1.", "the MobileNet of the scorer \"nima\""),
    ("bert.", "a BERT"),
    ("embeddings.", "a text or vision encoder alone"),
    ("text_model.", "a text encoder alone"),
    ("vision_model.", "a vision tower alone"),
];

/// The kind of a model by its names; `None`: unknown.
pub(in crate::models) fn look_alike(names: &[&str]) -> Option<&'static str> {
    let holds = |(start, _): &&(&str, &str)| names.iter().any(|name| name.starts_with(start));
    KINDS.iter().find(holds).map(|(_, what)| *what)
}
