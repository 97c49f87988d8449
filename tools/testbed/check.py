"""Sample the base model with diffusers and judge the samples without a learned judge (judging.py).

Every picture has a seed of its own. The same figures are printed for clean composed drawings and for their VAE
reconstructions. The sheet shows some of the names in columns, one sample per row.

Usage: check.py [--model FOLDER] [--seeds N] [--steps N] [--scale X] [--sheet FILE.png [--every N]] [--threads N]
"""

import argparse
import json
import time
from pathlib import Path

import torch
from common import MODEL, STYLES, contact_sheet, names, sprites
from compose import compose_many
from diffusers import DDIMScheduler, StableDiffusionPipeline
from judging import Judge
from train_vae import reconstruct

BATCH = 32


def load_pipeline(folder):
    """The model with a DDIM sampler, in float32."""
    pipeline = StableDiffusionPipeline.from_pretrained(folder, dtype=torch.float32)
    pipeline.scheduler = DDIMScheduler.from_config(pipeline.scheduler.config)
    pipeline.set_progress_bar_config(disable=True)
    return pipeline


def sample(pipeline, prompts, seeds, steps, scale):
    """One picture per prompt and seed, [N, 3, 64, 64] in [0, 1], rounded to 8 bits as a file would.

    The UNet and the text encoder run in bfloat16, which is faster; the VAE runs in float32.
    """
    pictures = []
    for first in range(0, len(prompts), BATCH):
        part = slice(first, first + BATCH)
        generators = [torch.Generator().manual_seed(seed) for seed in seeds[part]]
        with torch.autocast("cpu", torch.bfloat16):
            latents = pipeline(prompts[part], generator=generators, num_inference_steps=steps, guidance_scale=scale,
                               output_type="latent", height=64, width=64).images
        with torch.no_grad():
            decoded = pipeline.vae.decode(latents.float() / pipeline.vae.config.scaling_factor).sample
        pictures.append(decoded.add(1).div(2).clamp(0, 1))
    return torch.cat(pictures).mul(255).round().div(255)


def figures(title, verdict, wanted, styles=None):
    """Print one JSON line on judged pictures; `wanted` are the intended names, `styles` the true styles if known."""
    right = (verdict.name == wanted).float()
    held_out = torch.tensor([row["held_out"] for row in names()])[wanted]
    bins = torch.histc(verdict.luma, bins=10, min=0, max=1) / len(wanted)
    shares = torch.bincount(verdict.style, minlength=len(STYLES)) / len(wanted)
    line = {"pictures": title, "count": len(wanted), "content": right.mean().item(),
            "content_heldout": right[held_out].mean().item(), "luma": verdict.luma.mean().item(),
            "luma_bins": bins, "style_shares": shares, "off_manifold": verdict.off_manifold.mean().item()}
    if styles is not None:
        line["style"] = (verdict.style == styles).float().mean().item()
    rounded = {key: [round(one, 3) for one in value.tolist()] if torch.is_tensor(value)
               else round(value, 4) if isinstance(value, float) else value for key, value in line.items()}
    print(json.dumps(rounded), flush=True)


def drawn_pictures(seed):
    """Every drawing once, composed at random: pictures, names, styles."""
    drawings = sprites()
    styles = torch.arange(len(drawings)).repeat_interleave(len(drawings[0]))
    wanted = torch.arange(len(drawings[0])).repeat(len(drawings))
    generator = torch.Generator().manual_seed(seed)
    pictures = compose_many([drawing for style in drawings for drawing in style], generator)
    return pictures.mul(255).round().div(255), wanted, styles


def worst(verdict, wanted, rows):
    """Print the names with the most wrong samples."""
    wrong = (verdict.name != wanted)
    counts = torch.bincount(wanted[wrong], minlength=len(rows))
    order = counts.argsort(descending=True)[:12].tolist()
    print("most often wrong:", {rows[one]["slug"]: int(counts[one]) for one in order if counts[one]})


def main():
    """Judge drawings, reconstructions and samples; write the sheet."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", type=Path, default=MODEL)
    parser.add_argument("--seeds", type=int, default=4)
    parser.add_argument("--steps", type=int, default=20)
    parser.add_argument("--scale", type=float, default=4.0)
    parser.add_argument("--sheet", type=Path)
    parser.add_argument("--every", type=int, default=8, help="the sheet shows every Nth name")
    parser.add_argument("--threads", type=int, default=1)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    pipeline, judge, rows = load_pipeline(options.model), Judge(), names()
    pictures, wanted, styles = drawn_pictures(seed=5)
    figures("drawings", judge(pictures), wanted, styles)
    figures("reconstructions", judge(reconstruct(pipeline.vae, pictures)), wanted, styles)
    wanted = torch.arange(len(rows)).repeat(options.seeds)
    seeds = [1000 * (index // len(rows)) + index % len(rows) for index in range(len(wanted))]
    start = time.time()
    pictures = sample(pipeline, [rows[one]["prompt"] for one in wanted.tolist()], seeds, options.steps, options.scale)
    seconds, start = time.time() - start, time.time()
    verdict = judge(pictures)
    print(f"sampled in {seconds:.0f} s, judged in {time.time() - start:.0f} s")
    figures("samples", verdict, wanted)
    worst(verdict, wanted, rows)
    if options.sheet:
        cells = pictures.view(options.seeds, len(rows), *pictures.shape[1:])[:, ::options.every].flatten(0, 1)
        contact_sheet(cells, len(cells) // options.seeds).save(options.sheet, optimize=True)


if __name__ == "__main__":
    main()
