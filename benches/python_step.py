#!/usr/bin/env python3
"""The baseline of `diffpref train`: Diffusion-DPO with a LoRA as Python scripts do it today.

    .python/python benches/python_step.py MODEL pairs.jsonl --resolution 256 --steps 3

A batch of one pair; pictures and prompt are encoded in the step; the reference is the same UNet with its adapters
disabled; torch.optim.AdamW. Prints a JSON line: seconds per step, seconds of it encoding, peak resident memory.
"""

import argparse
import json
import resource
import statistics
import time
from pathlib import Path

import diffusers
import peft
import torch
import torch.nn.functional as F
import transformers
from diffusers import AutoencoderKL, DDPMScheduler, UNet2DConditionModel
from peft import LoraConfig
from PIL import Image
from transformers import CLIPTextModel, CLIPTokenizer


def pixels(path, resolution):
    """[3, R, R] in [-1, 1], alpha over white."""
    picture = Image.open(path).convert("RGBA")
    picture = Image.alpha_composite(Image.new("RGBA", picture.size, "white"), picture).convert("RGB")
    picture = picture.resize((resolution, resolution), Image.BILINEAR)
    values = torch.frombuffer(bytearray(picture.tobytes()), dtype=torch.uint8)
    return values.view(resolution, resolution, 3).permute(2, 0, 1).float() / 127.5 - 1


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", type=Path)
    parser.add_argument("pairs", type=Path)
    parser.add_argument("--resolution", type=int, default=256)
    parser.add_argument("--steps", type=int, default=3)
    parser.add_argument("--rank", type=int, default=8)
    parser.add_argument("--beta", type=float, default=5000)
    parser.add_argument("--lr", type=float, default=1e-5)
    options = parser.parse_args()
    pairs = [json.loads(line) for line in options.pairs.read_text().splitlines()]
    folder, at = options.model, {"torch_dtype": torch.float32}

    unet = UNet2DConditionModel.from_pretrained(folder / "unet", **at).requires_grad_(False)
    vae = AutoencoderKL.from_pretrained(folder / "vae", **at).requires_grad_(False)
    text = CLIPTextModel.from_pretrained(folder / "text_encoder", **at).requires_grad_(False)
    tokenizer = CLIPTokenizer.from_pretrained(folder / "tokenizer")
    schedule = DDPMScheduler.from_pretrained(folder / "scheduler")
    targets = ["to_q", "to_k", "to_v", "to_out.0"]
    unet.add_adapter(
        LoraConfig(r=options.rank, lora_alpha=options.rank, init_lora_weights="gaussian", target_modules=targets))
    trained = [p for p in unet.parameters() if p.requires_grad]
    optimizer = torch.optim.AdamW(trained, lr=options.lr, weight_decay=1e-2)

    times, encoding = [], []
    for step in range(options.steps):
        pair = pairs[step % len(pairs)]
        start = time.perf_counter()
        images = [pixels(options.pairs.parent / pair[side], options.resolution) for side in ("winner", "loser")]
        with torch.no_grad():
            latents = vae.encode(torch.stack(images)).latent_dist.sample() * vae.config.scaling_factor
            ids = tokenizer(pair["prompt"], padding="max_length", truncation=True, return_tensors="pt").input_ids
            prompt_embeds = text(ids).last_hidden_state.repeat(2, 1, 1)
        encoding.append(time.perf_counter() - start)

        noise = torch.randn_like(latents[:1]).repeat(2, 1, 1, 1)
        t = torch.randint(0, schedule.config.num_train_timesteps, (1,)).repeat(2)
        noisy = schedule.add_noise(latents, noise, t)
        theta = (unet(noisy, t, prompt_embeds).sample - noise).pow(2).mean((1, 2, 3))
        with torch.no_grad():
            unet.disable_adapters()
            reference = (unet(noisy, t, prompt_embeds).sample - noise).pow(2).mean((1, 2, 3))
            unet.enable_adapters()
        model_diff, ref_diff = theta[0] - theta[1], reference[0] - reference[1]
        loss = -F.logsigmoid(-0.5 * options.beta * (model_diff - ref_diff))
        loss.backward()
        torch.nn.utils.clip_grad_norm_(trained, 1.0)
        optimizer.step()
        optimizer.zero_grad()
        times.append(time.perf_counter() - start)

    rss = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    versions = {m.__name__: m.__version__ for m in (torch, diffusers, transformers, peft)}
    print(json.dumps({
        "s_per_step": statistics.median(times), "encode_s": statistics.median(encoding), "peak_gib": rss,
        "steps": [round(x, 3) for x in times], "threads": torch.get_num_threads(), "versions": versions}))


if __name__ == "__main__":
    main()
