"""Train the VAE on composed pictures: 64 x 64 pixels to 4 x 16 x 16 latents and back.

Mean absolute errors of pixels, of differences to the right and lower neighbour (edges), of opponent colours, of means
over 8 x 8 pixels, and of the opponent colours of these means, plus a very small KL term. The last three keep the
colour of a plain ground, above all on the axis from red to green.

Usage: train_vae.py WORK [--minutes M] [--from VAE_FOLDER] [--threads N]
"""

import argparse
import json
import time
from pathlib import Path

import torch
from common import LUMA, SIZE, Clock, contact_sheet, sprites
from compose import compose, compose_many, draw_factors
from diffusers import AutoencoderKL
from torch.nn import functional

BATCH = 4
PEAK_RATE = 1e-3
KL_WEIGHT = 1e-6
EDGE_WEIGHT, OPPONENT_WEIGHT, MEAN_WEIGHT, MEAN_OPPONENT_WEIGHT = 1.0, 1.0, 2.0, 4.0
# Rows: red - green, yellow - blue.
OPPONENTS = torch.tensor([[1.0, -1.0, 0.0], [0.5, 0.5, -1.0]])


def new_vae():
    """The untrained autoencoder, 0.68M parameters."""
    return AutoencoderKL(
        in_channels=3, out_channels=3, latent_channels=4, sample_size=SIZE,
        block_out_channels=(16, 32, 64), layers_per_block=1, norm_num_groups=8, act_fn="silu",
        down_block_types=("DownEncoderBlock2D",) * 3, up_block_types=("UpDecoderBlock2D",) * 3)


def opponents(pictures):
    """Opponent colours, [N, 2, H, W]."""
    return torch.einsum("oc,nchw->nohw", OPPONENTS, pictures)


def reconstruction_loss(output, target):
    """Weighted sum of mean absolute errors; both arguments [N, 3, 64, 64] in [-1, 1]."""
    error = output - target
    right, lower = error[..., :, 1:] - error[..., :, :-1], error[..., 1:, :] - error[..., :-1, :]
    edges = right.abs().mean() + lower.abs().mean()
    means = functional.avg_pool2d(error, 8)
    return (error.abs().mean() + EDGE_WEIGHT * edges + OPPONENT_WEIGHT * opponents(error).abs().mean()
            + MEAN_WEIGHT * means.abs().mean() + MEAN_OPPONENT_WEIGHT * opponents(means).abs().mean())


def rate_at(step, done):
    """Learning rate: 100 steps of warm-up, then linear to 0 as `done` goes from 0 to 1."""
    return PEAK_RATE * min(1, (step + 1) / 100) * (1 - done)


def train(vae, drawings, minutes, generator):
    """Train `vae` in place for `minutes`."""
    optimizer = torch.optim.AdamW(vae.parameters(), lr=PEAK_RATE, betas=(0.9, 0.99), weight_decay=1e-4, fused=True)
    clock, start, step = Clock(minutes), time.time(), 0
    while (done := clock.done()) < 1:
        for group in optimizer.param_groups:
            group["lr"] = rate_at(step, done)
        picks = torch.randint(len(drawings), (BATCH,), generator=generator).tolist()
        batch = compose_many([drawings[pick] for pick in picks], generator) * 2 - 1
        with torch.autocast("cpu", torch.bfloat16):
            posterior = vae.encode(batch).latent_dist
            output = vae.decode(posterior.sample(generator)).sample
        loss = reconstruction_loss(output.float(), batch) + KL_WEIGHT * posterior.kl().float().mean()
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(vae.parameters(), 1.0)
        optimizer.step()
        if step % 100 == 0:
            error = (output.detach().float() - batch).abs().mean().item() / 2
            print(json.dumps({"step": step, "loss": round(loss.item(), 4), "error": round(error, 4),
                              "s_per_step": round((time.time() - start) / (step + 1), 3)}), flush=True)
        step += 1


@torch.no_grad()
def encode(vae, pictures):
    """Means and standard deviations of the latents of pictures in [0, 1]."""
    posteriors = [vae.encode(part * 2 - 1).latent_dist for part in pictures.split(64)]
    return (torch.cat([posterior.mean for posterior in posteriors]),
            torch.cat([posterior.std for posterior in posteriors]))


@torch.no_grad()
def reconstruct(vae, pictures):
    """Pictures in [0, 1] through the VAE and back."""
    means, _ = encode(vae, pictures)
    return torch.cat([vae.decode(part).sample for part in means.split(64)]).add(1).div(2).clamp(0, 1)


def ground_errors(vae, drawings, generator):
    """Mean absolute error of the ground's R, G, B and of its luma, over 256 composed pictures."""
    picks = torch.randint(len(drawings), (256,), generator=generator).tolist()
    factors = [draw_factors(generator) for _ in picks]
    pictures = torch.stack([compose(drawings[pick], one) for pick, one in zip(picks, factors)])
    shown = reconstruct(vae, pictures)
    wanted = torch.tensor([one.ground for one in factors])
    edge = torch.cat([shown[:, :, :3].flatten(2), shown[:, :, -3:].flatten(2)], 2).median(2).values
    luma = ((edge - wanted) @ LUMA).abs().mean().item()
    red_green = (edge - wanted)[:, 0] - (edge - wanted)[:, 1]
    print(json.dumps({"ground": round((edge - wanted).abs().mean().item(), 4), "luma": round(luma, 4),
                      "red_green": round(red_green.abs().mean().item(), 4),
                      "picture": round((shown - pictures).abs().mean().item(), 4)}))
    return torch.stack([pictures, shown], 1).flatten(0, 1)


def main():
    """Train, then save WORK/vae and a sheet of pictures beside their reconstructions."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("work", type=Path)
    parser.add_argument("--minutes", type=float, default=30)
    parser.add_argument("--from", dest="start", type=Path, help="folder of a VAE to start from")
    parser.add_argument("--threads", type=int, default=1)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    torch.manual_seed(1)
    generator = torch.Generator().manual_seed(1)
    drawings = [drawing for style in sprites() for drawing in style]
    vae = new_vae()
    if options.start:
        vae = AutoencoderKL.from_pretrained(options.start, torch_dtype=torch.float32).train()
    train(vae, drawings, options.minutes, generator)
    vae = vae.eval()
    latents, _ = encode(vae, compose_many(drawings, generator))
    vae.register_to_config(scaling_factor=round(1 / latents.std().item(), 5))
    vae.save_pretrained(options.work / "vae")
    sheet = ground_errors(vae, drawings, generator)
    contact_sheet(sheet[:192], 24).save(options.work / "vae.png")
    print(f"scaling factor {vae.config.scaling_factor}")


if __name__ == "__main__":
    main()
