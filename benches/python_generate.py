#!/usr/bin/env python3
"""Pictures with diffusers, one file per picture, as in `diffpref generate`; prints times as one JSON object.

    python_generate.py MODEL OUT --prompts N --steps N [--size N] [--batch N] [--guidance X]
"""

import argparse
import json
import os
import time

START = time.time()
import diffusers  # noqa: E402
import torch  # noqa: E402
import transformers  # noqa: E402

parser = argparse.ArgumentParser(description=__doc__)
parser.add_argument("model")
parser.add_argument("out")
parser.add_argument("--prompts", type=int, required=True)
parser.add_argument("--steps", type=int, required=True)
parser.add_argument("--size", type=int)
parser.add_argument("--batch", type=int, default=1)
parser.add_argument("--guidance", type=float, default=7.5)
arguments = parser.parse_args()
torch.set_num_threads(int(os.environ.get("OMP_NUM_THREADS", os.cpu_count())))
os.makedirs(arguments.out, exist_ok=True)
pipe = diffusers.StableDiffusionPipeline.from_pretrained(arguments.model, torch_dtype=torch.float32, safety_checker=None)
pipe.set_progress_bar_config(disable=True)
ends = []
prompts = [f"picture {i}" for i in range(arguments.prompts)]
for first in range(0, len(prompts), arguments.batch):
    batch = prompts[first : first + arguments.batch]
    generators = [torch.Generator("cpu").manual_seed(0) for _ in batch]
    images = pipe(
        batch, num_inference_steps=arguments.steps, guidance_scale=arguments.guidance, generator=generators,
        height=arguments.size, width=arguments.size,
    ).images
    for offset, image in enumerate(images):
        image.save(f"{arguments.out}/{first + offset:06}-00.png")
        ends.append(time.time())
versions = {"torch": torch.__version__, "diffusers": diffusers.__version__, "transformers": transformers.__version__}
print(json.dumps({"threads": torch.get_num_threads(), "versions": versions, "import_s": ends[0] - START}))
