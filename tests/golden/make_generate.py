"""A tiny model with random weights, and the pictures that diffusers 0.42 paints with it: golden values of tests/it/generate/pictures.rs.

    .python/python tests/golden/make_generate.py

    generate/model          SD layout: f = 2, 32 x 32 pixels, text length 16, DDIM; float16 weights, 0.3 MB
    generate/lora.safetensors   a LoRA in PEFT naming
    generate/CASE-SEED.png  and cases.json: the options of each case
"""

import json
import pathlib
import shutil

import torch
from diffusers import AutoencoderKL, DDIMScheduler, StableDiffusionPipeline, UNet2DConditionModel
from safetensors.torch import save_file
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTokenizer

HERE = pathlib.Path(__file__).parent
OUT = HERE / "generate"
TOKENIZER = HERE.parent.parent / "pipelines/tests/golden/tokenizer/joined"
PROMPT = "a black cat in the forest"
CASES = {
    "plain": {"guidance_scale": 7.5, "eta": 0.0},
    "eta": {"guidance_scale": 7.5, "eta": 1.0},
    "unguided": {"guidance_scale": 1.0, "eta": 0.0},
    "negative": {"guidance_scale": 4.0, "eta": 0.5, "negative_prompt": "red apple, hot pepper"},
    "wide": {"guidance_scale": 7.5, "eta": 0.0, "width": 48, "height": 24},
    "lora": {"guidance_scale": 3.0, "eta": 0.0, "lora": 0.5},
}


def fill(module, seed, gain):
    """Random weights whose activations neither vanish nor blow up: gain / sqrt(fan in), biases and norms off their defaults."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, p in sorted(module.named_parameters()):
            noise = torch.randn(p.shape, generator=generator)
            if p.dim() > 1:
                p.copy_(noise * gain / p[0].numel() ** 0.5)
            else:
                p.copy_(noise * 0.2 + (1.0 if name.endswith("weight") else 0.0))
    return module.half()


def model():
    tokenizer = CLIPTokenizer.from_pretrained(TOKENIZER)
    text = CLIPTextModel(CLIPTextConfig(
        vocab_size=len(tokenizer), hidden_size=24, intermediate_size=48, num_hidden_layers=2, num_attention_heads=2, max_position_embeddings=16,
        hidden_act="quick_gelu", bos_token_id=tokenizer.bos_token_id, eos_token_id=tokenizer.eos_token_id, pad_token_id=tokenizer.pad_token_id))
    unet = UNet2DConditionModel(
        sample_size=16, block_out_channels=(16, 32), layers_per_block=1, cross_attention_dim=24, attention_head_dim=2, norm_num_groups=4,
        down_block_types=("DownBlock2D", "CrossAttnDownBlock2D"), up_block_types=("CrossAttnUpBlock2D", "UpBlock2D"))
    vae = AutoencoderKL(
        block_out_channels=(8, 16), layers_per_block=1, latent_channels=4, norm_num_groups=4, sample_size=32,
        down_block_types=("DownEncoderBlock2D",) * 2, up_block_types=("UpDecoderBlock2D",) * 2)
    scheduler = DDIMScheduler(
        beta_start=0.00085, beta_end=0.012, beta_schedule="scaled_linear", clip_sample=False, set_alpha_to_one=False, steps_offset=1)
    pipe = StableDiffusionPipeline(
        vae=fill(vae, 1, 1.0), text_encoder=fill(text, 2, 1.5), tokenizer=tokenizer, unet=fill(unet, 3, 1.2), scheduler=scheduler,
        safety_checker=None, feature_extractor=None, requires_safety_checker=False)
    pipe.save_pretrained(OUT / "model")


def lora():
    generator = torch.Generator().manual_seed(4)
    pipe = load()
    tensors = {}
    for name, module in sorted(pipe.unet.named_modules()):
        if name.endswith(("to_q", "to_k", "to_v", "to_out.0")):
            tensors[f"unet.{name}.lora_A.weight"] = torch.randn(4, module.in_features, generator=generator) * 0.3
            tensors[f"unet.{name}.lora_B.weight"] = torch.randn(module.out_features, 4, generator=generator) * 0.3
    save_file(tensors, OUT / "lora.safetensors", metadata={"format": "pt"})


def load():
    pipe = StableDiffusionPipeline.from_pretrained(OUT / "model", torch_dtype=torch.float32, safety_checker=None)
    pipe.set_progress_bar_config(disable=True)
    return pipe


def main():
    torch.set_num_threads(1)
    shutil.rmtree(OUT, ignore_errors=True)
    model()
    lora()
    pipe = load()
    for name, case in CASES.items():
        options = {k: v for k, v in case.items() if k != "lora"}
        if "lora" in case:
            pipe.load_lora_weights(OUT, weight_name="lora.safetensors", adapter_name="golden")
            pipe.set_adapters(["golden"], [case["lora"]])
        for seed in (5, 6):
            generator = torch.Generator("cpu").manual_seed(seed)
            image = pipe(PROMPT, num_inference_steps=10, generator=generator, **options).images[0]
            image.save(OUT / f"{name}-{seed}.png")
    (OUT / "cases.json").write_text(json.dumps({"prompt": PROMPT, "steps": 10, "cases": CASES}, indent=1) + "\n")


main()
