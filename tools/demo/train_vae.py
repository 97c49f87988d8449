"""Train the demo model's VAE from scratch: 64x64 pictures to 4x16x16 latents and back.

L1 loss on pixels and on their differences to the right and lower neighbour (edges), plus a very
small KL term. Every batch is drawn from both styles and augmented.

Usage: train_vae.py WORK [--steps N | --minutes M]
"""

import argparse
import json
import time
from pathlib import Path

import torch
from common import SIZE, augment, contact_sheet, drawings, progress
from diffusers import AutoencoderKL

BATCH = 8
PEAK_RATE = 2e-3
KL_WEIGHT = 1e-6
GRADIENT_WEIGHT = 1.0


def new_vae():
    """The untrained autoencoder."""
    return AutoencoderKL(
        in_channels=3, out_channels=3, latent_channels=4, sample_size=SIZE,
        block_out_channels=(16, 32, 64), layers_per_block=1, norm_num_groups=8, act_fn="silu",
        down_block_types=("DownEncoderBlock2D",) * 3, up_block_types=("UpDecoderBlock2D",) * 3)


def edges(images):
    """Differences to the right and to the lower neighbour."""
    return images[..., :, 1:] - images[..., :, :-1], images[..., 1:, :] - images[..., :-1, :]


def reconstruction_loss(output, target):
    """L1 of pixels and of edges."""
    loss = (output - target).abs().mean()
    for got, wanted in zip(edges(output), edges(target)):
        loss = loss + GRADIENT_WEIGHT * (got - wanted).abs().mean()
    return loss


def rate_at(step, done):
    """Learning rate: 100 steps of warm-up, then linear to 0 as `done` goes from 0 to 1."""
    return PEAK_RATE * min(1, (step + 1) / 100) * (1 - done)


@torch.no_grad()
def set_scaling_factor(vae, images, generator):
    """Store 1 / standard deviation of the latents in the config, as Stable Diffusion does."""
    batch = torch.cat([images, augment(images, generator)])
    latents = torch.cat([vae.encode(part).latent_dist.sample(generator) for part in batch.split(64)])
    vae.register_to_config(scaling_factor=round(1 / latents.std().item(), 5))


def main():
    """Train, then save WORK/vae and a sheet of drawings beside their reconstructions."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("work", type=Path)
    parser.add_argument("--steps", type=int, default=1300)
    parser.add_argument("--minutes", type=float, help="train so long instead of --steps")
    options = parser.parse_args()
    torch.manual_seed(1)
    generator = torch.Generator().manual_seed(1)
    images = drawings().flatten(0, 1)
    vae = new_vae().to(memory_format=torch.channels_last)
    print(f"{sum(p.numel() for p in vae.parameters())} parameters", flush=True)
    optimizer = torch.optim.AdamW(vae.parameters(), lr=PEAK_RATE, betas=(0.9, 0.99),
                                  weight_decay=1e-4)
    start = time.time()
    for step, done in progress(options.steps, options.minutes):
        for group in optimizer.param_groups:
            group["lr"] = rate_at(step, done)
        picks = torch.randint(len(images), (BATCH,), generator=generator)
        batch = augment(images[picks], generator).contiguous(memory_format=torch.channels_last)
        posterior = vae.encode(batch).latent_dist
        output = vae.decode(posterior.sample(generator)).sample
        loss = reconstruction_loss(output, batch) + KL_WEIGHT * posterior.kl().mean()
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(vae.parameters(), 1.0)
        optimizer.step()
        if step % 50 == 0:
            error = (output.detach() - batch).abs().mean().item() / 2
            print(json.dumps({"step": step, "loss": round(loss.item(), 4), "error": round(error, 4),
                              "s_per_step": round((time.time() - start) / (step + 1), 3)}), flush=True)
    vae = vae.eval().to(memory_format=torch.contiguous_format)
    set_scaling_factor(vae, images, generator)
    vae.save_pretrained(options.work / "vae")
    with torch.no_grad():
        shown = images[::10]
        decoded = vae.decode(vae.encode(shown).latent_dist.mean).sample
    pairs = torch.stack([shown, decoded], 1).flatten(0, 1)
    contact_sheet(pairs, 16).save(options.work / "vae.png")
    print(f"scaling factor {vae.config.scaling_factor}")


if __name__ == "__main__":
    main()
