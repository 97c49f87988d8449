"""Tiny SDXL and SD2.1-v models with random weights, and what diffusers 0.42 makes of them: golden values of
tests/it/generate/families.rs and tests/it/train/families.rs.

    .python/python tests/golden/make_families.py

    families/sdxl, families/sd21   model folders, float16 weights; f = 2, 32 x 32 pixels, text length 77
    families/embeds.safetensors    what encode_prompt gives for PROMPTS, prompt by prompt
    families/MODEL-CASE.png        pictures of seed 5, and cases.json: prompts and options
"""

import json
import pathlib
import shutil

import torch
from diffusers import (
    AutoencoderKL, DDIMScheduler, EulerDiscreteScheduler, StableDiffusionPipeline, StableDiffusionXLPipeline, UNet2DConditionModel)
from safetensors.torch import save_file
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTextModelWithProjection, CLIPTokenizer

HERE = pathlib.Path(__file__).parent
OUT = HERE / "families"
# diffusers 0.42 looks for the final norm of a skipped layer there; transformers 5.6 and newer have no such level.
CLIPTextModel.text_model = property(lambda self: self)
TOKENIZERS = HERE.parent.parent / "pipelines/tests/golden/tokenizer"
PROMPTS = [
    "a black cat in the forest",
    "",
    "wow! such! cat !!!",
    "Ünïcödé 🦊 東京 café",
    "photo of a cat, " * 30,
]
BETAS = {"beta_start": 0.00085, "beta_end": 0.012, "beta_schedule": "scaled_linear"}
# The prompt and the options of pipe(..); what is absent takes the pipeline's own default.
CASES = {
    "sdxl": {
        "plain": {"prompt": PROMPTS[0]},
        "wide": {"prompt": PROMPTS[2], "width": 48, "height": 24},
        "encoded": {"prompt": PROMPTS[0], "negative_prompt": ""},
        "negative": {"prompt": PROMPTS[3], "negative_prompt": "red apple! hot pepper", "guidance_scale": 3.0, "eta": 1.0},
        "long": {"prompt": PROMPTS[4], "clip_skip": 1, "negative_prompt": "red apple"},
    },
    "sd21": {
        "plain": {"prompt": PROMPTS[2]},
        "wide": {"prompt": PROMPTS[4], "width": 48, "height": 24, "eta": 0.5},
        "skip": {"prompt": PROMPTS[3], "clip_skip": 1},
    },
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


def vae(seed, **options):
    return fill(AutoencoderKL(
        block_out_channels=(4, 8), layers_per_block=1, latent_channels=4, norm_num_groups=2, sample_size=32,
        down_block_types=("DownEncoderBlock2D",) * 2, up_block_types=("UpDecoderBlock2D",) * 2, **options), seed, 1.0)


def text_config(tokenizer, width, layers, **options):
    return CLIPTextConfig(
        vocab_size=len(tokenizer), hidden_size=width, intermediate_size=2 * width, num_hidden_layers=layers, num_attention_heads=2,
        max_position_embeddings=77, bos_token_id=0, pad_token_id=1, **options)


def tokenizer(name):
    return CLIPTokenizer.from_pretrained(TOKENIZERS / name)


def copy_words(to, name):
    """vocab.json and merges.txt, as published folders have them: half as large as transformers 5's tokenizer.json."""
    shutil.rmtree(OUT / to)
    shutil.copytree(TOKENIZERS / name, OUT / to)


def make_sdxl():
    first, second = tokenizer("plain"), tokenizer("exclaim")
    # The historic 2 of published configs means the largest id; the second says its own end token.
    text = CLIPTextModel(text_config(first, 16, 2, hidden_act="quick_gelu", eos_token_id=2))
    text_2 = CLIPTextModelWithProjection(
        text_config(second, 24, 3, hidden_act="gelu", eos_token_id=second.eos_token_id, projection_dim=12))
    unet = UNet2DConditionModel(
        sample_size=16, block_out_channels=(8, 8), layers_per_block=1, cross_attention_dim=40, attention_head_dim=(1, 4),
        norm_num_groups=4, transformer_layers_per_block=(1, 2), use_linear_projection=True, addition_embed_type="text_time",
        addition_time_embed_dim=4, projection_class_embeddings_input_dim=12 + 6 * 4,
        down_block_types=("DownBlock2D", "CrossAttnDownBlock2D"), up_block_types=("CrossAttnUpBlock2D", "UpBlock2D"))
    scheduler = EulerDiscreteScheduler(**BETAS, timestep_spacing="leading", steps_offset=1)
    pipe = StableDiffusionXLPipeline(
        vae=vae(11, scaling_factor=0.13025), text_encoder=fill(text, 12, 1.5), text_encoder_2=fill(text_2, 13, 1.5), tokenizer=first,
        tokenizer_2=second, unet=fill(unet, 14, 1.2), scheduler=scheduler, add_watermarker=False)
    pipe.save_pretrained(OUT / "sdxl")
    copy_words("sdxl/tokenizer", "plain")
    copy_words("sdxl/tokenizer_2", "exclaim")
    # Published folders carry keys that Euler ignores and DDIM reads.
    state(OUT / "sdxl/scheduler/scheduler_config.json", clip_sample=False, set_alpha_to_one=False, skip_prk_steps=True)


def make_sd21():
    words = tokenizer("exclaim")
    text = CLIPTextModel(text_config(words, 24, 2, hidden_act="gelu", eos_token_id=2))
    unet = UNet2DConditionModel(
        sample_size=16, block_out_channels=(8, 16), layers_per_block=1, cross_attention_dim=24, attention_head_dim=(2, 4),
        norm_num_groups=4, use_linear_projection=True, upcast_attention=True,
        down_block_types=("CrossAttnDownBlock2D", "DownBlock2D"), up_block_types=("UpBlock2D", "CrossAttnUpBlock2D"))
    scheduler = DDIMScheduler(**BETAS, clip_sample=False, set_alpha_to_one=False, steps_offset=1, prediction_type="v_prediction")
    pipe = StableDiffusionPipeline(
        vae=vae(21), text_encoder=fill(text, 22, 1.5), tokenizer=words, unet=fill(unet, 23, 1.2), scheduler=scheduler,
        safety_checker=None, feature_extractor=None, requires_safety_checker=False)
    pipe.save_pretrained(OUT / "sd21")
    copy_words("sd21/tokenizer", "exclaim")


def state(path, **keys):
    path.write_text(json.dumps(json.loads(path.read_text()) | keys, indent=2) + "\n")


def load(name):
    classes = {"sdxl": StableDiffusionXLPipeline, "sd21": StableDiffusionPipeline}
    pipe = classes[name].from_pretrained(OUT / name, torch_dtype=torch.float32)
    pipe.scheduler = DDIMScheduler.from_config(pipe.scheduler.config)
    pipe.set_progress_bar_config(disable=True)
    return pipe


def embeds(name, pipe):
    """`MODEL.skip.prompt_embeds` [prompts, L, D] and `.pooled` [prompts, P]."""
    found = {}
    for skip in (0, 1):
        rows = [pipe.encode_prompt(
            prompt=prompt, device="cpu", num_images_per_prompt=1, do_classifier_free_guidance=False, clip_skip=skip or None)
            for prompt in PROMPTS]
        found[f"{name}.{skip}.prompt_embeds"] = torch.cat([row[0] for row in rows])
        if name == "sdxl":
            found[f"{name}.{skip}.pooled"] = torch.cat([row[2] for row in rows])
    return {key: value.detach().contiguous() for key, value in found.items()}


def main():
    torch.set_num_threads(1)
    shutil.rmtree(OUT, ignore_errors=True)
    make_sdxl()
    make_sd21()
    encoded = {}
    for name, cases in CASES.items():
        pipe = load(name)
        with torch.no_grad():
            encoded |= embeds(name, pipe)
        for case, options in cases.items():
            generator = torch.Generator("cpu").manual_seed(5)
            pipe(num_inference_steps=10, generator=generator, **options).images[0].save(OUT / f"{name}-{case}.png")
    # A quarter of the positions: start, a few words, padding, end.
    encoded = {k: v[:, ::4].contiguous() if k.endswith("prompt_embeds") else v for k, v in encoded.items()}
    save_file(encoded, OUT / "embeds.safetensors")
    (OUT / "cases.json").write_text(json.dumps({"prompts": PROMPTS, "steps": 10, "seed": 5, "cases": CASES}, indent=1) + "\n")


main()
