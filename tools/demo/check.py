"""Sample the demo model with diffusers and judge the samples.

Every name is drawn from the same seeds (10 DDIM steps) at each guidance scale. Three judges give the share of flat
pictures and the share with the right name: the trained judge, the nearest
drawing in pixels, and the nearest drawing in the VAE's latents. The sheet shows for each name both
drawings, then the samples at the first scale.

Usage: check.py [--model FOLDER] [--scales 7.5 5 3] [--seeds 3] [--steps 10] [--sheet FILE.png]
"""

import argparse
import json
import time
from pathlib import Path

import torch
from common import ROOT, contact_sheet, drawings, names
from diffusers import DDIMScheduler, StableDiffusionPipeline
from judge import load_judge

BATCH = 32


def load_pipeline(folder):
    """The model with a DDIM sampler, in float32."""
    pipeline = StableDiffusionPipeline.from_pretrained(folder, dtype=torch.float32)
    pipeline.scheduler = DDIMScheduler.from_config(pipeline.scheduler.config)
    pipeline.set_progress_bar_config(disable=True)
    return pipeline


def sample(pipeline, prompts, seeds, steps, scale):
    """One picture per prompt and seed, [N, 3, 64, 64] in [-1, 1]."""
    pictures = []
    for first in range(0, len(prompts), BATCH):
        part = slice(first, first + BATCH)
        generators = [torch.Generator().manual_seed(seed) for seed in seeds[part]]
        output = pipeline(prompts[part], generator=generators, num_inference_steps=steps,
                          guidance_scale=scale, output_type="pt", height=64, width=64)
        pictures.append(output.images * 2 - 1)
    return torch.cat(pictures)


@torch.no_grad()
def latents_of(vae, images):
    """Latent means, one row per picture."""
    return torch.cat([vae.encode(part).latent_dist.mean for part in images.split(64)]).flatten(1)


@torch.no_grad()
def nearest_drawings(vae, pictures, references):
    """Style and name (class indices) of the drawing nearest to every picture, in pixels and in latents."""
    count = len(references) // 2
    spaces = {"pixels": (pictures.flatten(1), references.flatten(1)),
              "latents": (latents_of(vae, pictures), latents_of(vae, references))}
    nearest = {name: torch.cdist(points, targets).argmin(1) for name, (points, targets) in spaces.items()}
    return {name: (index // count, index % count) for name, index in nearest.items()}


@torch.no_grad()
def verdicts(pipeline, judge, pictures, references):
    """Style and name (class indices) of every picture, per judge."""
    style, content = judge(pictures)
    trained = {"judge": (style.argmax(1), content.argmax(1))}
    return trained | nearest_drawings(pipeline.vae, pictures, references)


def main():
    """Sample, judge, print one JSON line per scale, write the sheet."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", type=Path, default=ROOT / "assets/demo-model")
    parser.add_argument("--scales", type=float, nargs="+", default=[7.5, 5.0, 3.0])
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--steps", type=int, default=10)
    parser.add_argument("--sheet", type=Path)
    options = parser.parse_args()
    pipeline, judge = load_pipeline(options.model), load_judge()
    prompts = [row["prompt"] for row in names()] * options.seeds
    count = len(prompts) // options.seeds
    wanted = torch.arange(count).repeat(options.seeds)
    seeds = [1000 * (index // count) + index % count for index in range(len(prompts))]
    references = drawings()
    for scale in options.scales:
        start = time.time()
        pictures = sample(pipeline, prompts, seeds, options.steps, scale)
        line = {"scale": scale, "steps": options.steps, "s": round(time.time() - start, 1)}
        found = verdicts(pipeline, judge, pictures, references.flatten(0, 1))
        for name, (style, content) in found.items():
            line[name] = {"flat": round((style == 0).float().mean().item(), 3),
                          "content": round((content == wanted).float().mean().item(), 3)}
        print(json.dumps(line), flush=True)
        if options.sheet and scale == options.scales[0]:
            drawn = pictures.view(options.seeds, count, *pictures.shape[1:])
            cells = torch.cat([references, drawn]).transpose(0, 1).flatten(0, 1)
            contact_sheet(cells, 4 * (2 + options.seeds)).save(options.sheet)


if __name__ == "__main__":
    main()
