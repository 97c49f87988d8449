"""Train the demo model's UNet and text encoder together, from scratch, in the VAE's latents.

Captions are the plain names for both styles, so the trained model draws both. Noise prediction
with min-SNR weights, 10 % empty captions for classifier-free guidance, an average of the weights.
The average is written as a whole model folder at some steps on the way and at the end. `--from` starts from the
weights of a model folder instead of random ones, to continue an interrupted training.

Usage: train_unet.py WORK MODEL_FOLDER [--steps N | --minutes M] [--from MODEL_FOLDER] [--threads N]
"""

import argparse
import copy
import json
import time
from pathlib import Path

import torch
from common import augment, drawings, names, progress
from diffusers import AutoencoderKL, DDPMScheduler, UNet2DConditionModel
from model_folder import SCHEDULER, save_model
from tokenizer import LENGTH
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTokenizer

BATCH = 32
PEAK_RATE = 1e-3
EMPTY_SHARE = 0.1
MIN_SNR_GAMMA = 5.0
EMA_DECAY = 0.999
VARIANTS = 8
TEXT_WIDTH = 96
SNAPSHOTS = (600, 1200, 2000, 2800)


def new_unet():
    """The untrained UNet: Stable Diffusion 1.5's parts, three levels, narrow."""
    return UNet2DConditionModel(
        sample_size=16, in_channels=4, out_channels=4, block_out_channels=(64, 128, 128),
        down_block_types=("DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D"),
        up_block_types=("CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"),
        layers_per_block=1, cross_attention_dim=TEXT_WIDTH, attention_head_dim=4,
        norm_num_groups=32)


def new_text_encoder(tokenizer):
    """The untrained text encoder."""
    return CLIPTextModel(CLIPTextConfig(
        vocab_size=len(tokenizer), hidden_size=TEXT_WIDTH, intermediate_size=4 * TEXT_WIDTH,
        projection_dim=TEXT_WIDTH, num_hidden_layers=2, num_attention_heads=4,
        max_position_embeddings=LENGTH, hidden_act="quick_gelu",
        bos_token_id=tokenizer.bos_token_id, eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id))


def start_networks(tokenizer, folder):
    """Both networks, untrained or with the weights of a model folder."""
    if folder is None:
        return new_unet(), new_text_encoder(tokenizer)
    unet = UNet2DConditionModel.from_pretrained(folder / "unet", torch_dtype=torch.float32)
    text_encoder = CLIPTextModel.from_pretrained(folder / "text_encoder", torch_dtype=torch.float32)
    return unet.train(), text_encoder.train()


def token_ids(tokenizer):
    """Ids of all names and, in the last row, of the empty caption."""
    captions = [row["prompt"] for row in names()] + [""]
    return tokenizer(captions, padding="max_length", max_length=LENGTH, truncation=True,
                     return_tensors="pt").input_ids


@torch.no_grad()
def encode_drawings(vae, generator):
    """Means and standard deviations of the latents, [VARIANTS, 2 x names, 4, 16, 16] each.

    The first variant of each drawing is the drawing itself, the others are moved and scaled a little.
    """
    images = drawings().flatten(0, 1)
    variants = [images] + [augment(images, generator, flip=0, shift=0.03, scale=0.06)
                           for _ in range(VARIANTS - 1)]
    means, deviations = [], []
    for variant in variants:
        posteriors = [vae.encode(part).latent_dist for part in variant.split(64)]
        means.append(torch.cat([posterior.mean for posterior in posteriors]))
        deviations.append(torch.cat([posterior.std for posterior in posteriors]))
    return torch.stack(means), torch.stack(deviations)


class Average:
    """Moving average of the parameters of several models."""

    def __init__(self, models):
        self.live = models
        self.models = [copy.deepcopy(model).eval() for model in models]
        self.count = 0

    @torch.no_grad()
    def update(self):
        """Move the average towards the live parameters; faster in the first steps."""
        self.count += 1
        decay = min(EMA_DECAY, self.count / (self.count + 10))
        for average, live in zip(self.models, self.live):
            torch._foreach_lerp_(list(average.parameters()), list(live.parameters()), 1 - decay)


def rate_at(step, done):
    """Learning rate: 100 steps of warm-up, then linear to 0 as `done` goes from 0 to 1."""
    return PEAK_RATE * min(1, (step + 1) / 100) * (1 - done)


def main():
    """Train and write the model folder."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("work", type=Path)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--steps", type=int, default=3300)
    parser.add_argument("--minutes", type=float, help="train so long instead of --steps")
    parser.add_argument("--from", dest="start", type=Path, help="model folder with the start weights")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    torch.manual_seed(2)
    generator = torch.Generator().manual_seed(2)
    vae = AutoencoderKL.from_pretrained(options.work / "vae", torch_dtype=torch.float32)
    tokenizer = CLIPTokenizer.from_pretrained(options.work / "tokenizer")
    ids = token_ids(tokenizer)
    empty = len(ids) - 1
    means, deviations = encode_drawings(vae, generator)
    unet, text_encoder = start_networks(tokenizer, options.start)
    average = Average([unet, text_encoder])
    parameters = [*unet.parameters(), *text_encoder.parameters()]
    optimizer = torch.optim.AdamW(parameters, lr=PEAK_RATE, betas=(0.9, 0.99), weight_decay=0.01,
                                  fused=True)
    schedule = DDPMScheduler.from_config(SCHEDULER)
    alphas = schedule.alphas_cumprod
    weights = (MIN_SNR_GAMMA * (1 - alphas) / alphas).clamp(max=1)
    print(f"{sum(p.numel() for p in parameters)} parameters", flush=True)
    start, recent = time.time(), []
    for step, done in progress(options.steps, options.minutes):
        if step in SNAPSHOTS:
            save_model(options.folder, vae, *average.models, options.work / "tokenizer")
        for group in optimizer.param_groups:
            group["lr"] = rate_at(step, done)
        picks = torch.randint(means.shape[1], (BATCH,), generator=generator)
        variants = torch.randint(VARIANTS, (BATCH,), generator=generator)
        mean, deviation = means[variants, picks], deviations[variants, picks]
        latents = mean + deviation * torch.randn(mean.shape, generator=generator)
        latents = latents * vae.config.scaling_factor
        noise = torch.randn(latents.shape, generator=generator)
        times = torch.randint(1000, (BATCH,), generator=generator)
        noisy = schedule.add_noise(latents, noise, times)
        dropped = torch.rand(BATCH, generator=generator) < EMPTY_SHARE
        captions = torch.where(dropped, empty, picks % empty)
        states = text_encoder(ids[captions]).last_hidden_state
        predicted = unet(noisy, times, states).sample
        loss = (weights[times] * (predicted - noise).square().mean((1, 2, 3))).mean()
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(parameters, 1.0)
        optimizer.step()
        average.update()
        recent.append(loss.item())
        if step % 50 == 49:
            print(json.dumps({"step": step + 1, "loss": round(sum(recent) / len(recent), 4),
                              "s_per_step": round((time.time() - start) / (step + 1), 3)}), flush=True)
            recent.clear()
    save_model(options.folder, vae, *average.models, options.work / "tokenizer")


if __name__ == "__main__":
    main()
