"""Pictures of this program against Python diffusers, live: tokens to bytes, the same files, prompts and seeds.

    .python/python tools/parity/generate.py [PROGRAM]     (default target/debug/diffpref)
    .python/python tools/parity/generate.py PROGRAM MODEL[+LORA] ..     only these, with the options of the first case

Models: the tiny random ones of tests/golden/generate and tests/golden/families (SDXL, SD2.1 with velocity), and the bundled
demo model where it is there. Fails where a channel of
a pixel is off by more than 2, or where `--batch` changes more than that.
"""

import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

import diffusers
import numpy as np
import torch
import transformers
from diffusers import DDIMScheduler, DiffusionPipeline
from PIL import Image
from transformers import CLIPTextModel

ROOT = Path(__file__).resolve().parents[2]
PROGRAM = sys.argv[1] if len(sys.argv) > 1 else str(ROOT / "target/debug/diffpref")
LEVELS = 2
PROMPTS = ["red apple", "", "Water Buffalo!! with a VERY long tail, riding 2 honeybees over the moon and back again, don't stop 🦊 " * 4]
CASES = [
    {},
    {"eta": 1.0, "guidance_scale": 5.0},
    {"guidance_scale": 1.0, "steps": 7},
    {"negative_prompt": "blurry, grey", "eta": 0.3, "steps": 20},
]
TINY_ONLY = [
    {"width": 48, "height": 24},
    {"lora": ("tests/golden/generate/lora.safetensors", 0.7)},
    {"lora": ("tests/golden/generate/lora.safetensors", -1.5), "negative_prompt": "red", "eta": 1.0},
]
FAMILIES = [
    {"width": 48, "height": 24},
    {"clip_skip": 1},
    {"negative_prompt": "", "guidance_scale": 3.0},
]
# diffusers 0.42 looks for the final norm of a skipped layer there; transformers 5.6 and newer have no such level.
CLIPTextModel.text_model = property(lambda self: self)
ENVIRONMENT = {k: v for k, v in os.environ.items() if k != "LD_LIBRARY_PATH"} | {"OMP_NUM_THREADS": "1"}
failures = []


def theirs(pipe, case, seed, count):
    """The pictures of diffusers, prompt by prompt, one at a time."""
    options = {k: v for k, v in case.items() if k not in ("steps", "lora")}
    if "lora" in case:
        path, scale = case["lora"]
        pipe.load_lora_weights(str(ROOT / path), adapter_name="side")
        pipe.set_adapters(["side"], [scale])
    images = []
    for prompt in PROMPTS:
        for i in range(count):
            generator = torch.Generator("cpu").manual_seed(seed + i)
            images += pipe(prompt, num_inference_steps=case.get("steps", 10), generator=generator, **options).images
    if "lora" in case:
        pipe.unload_lora_weights()
    return images


def ours(model, case, seed, count, batch):
    with tempfile.TemporaryDirectory() as out:
        command = [PROGRAM, "generate", "--model", model, "--scheduler", "ddim", "--steps", case.get("steps", 10), "--seed", seed]
        command += ["--num-images", count, "--batch", batch, "--device", "cpu", "--out", out, "--json"]
        for prompt in PROMPTS:
            command += ["--prompt", prompt]
        for key in ("eta", "guidance_scale", "negative_prompt", "width", "height", "clip_skip"):
            if key in case:
                command.append(f"--{key.replace('_', '-')}={case[key]}")
        if "lora" in case:
            command += ["--lora", f"{ROOT / case['lora'][0]}:{case['lora'][1]}"]
        report = subprocess.run([str(c) for c in command], check=True, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, cwd=ROOT, env=ENVIRONMENT).stdout
        return [Image.open(f"{out}/{record['file']}").convert("RGB") for record in json.loads(report)["images"]]


def compare(name, a, b):
    levels = max(int(np.abs(np.asarray(x, dtype=int) - np.asarray(y, dtype=int)).max()) for x, y in zip(a, b, strict=True))
    share = np.mean([(np.asarray(x) != np.asarray(y)).mean() for x, y in zip(a, b)])
    verdict = "ok" if levels <= LEVELS else "FAILED"
    print(f"{name:70} {len(a):2} pictures, at most {levels} levels off, {share:.4%} of the values  {verdict}", flush=True)
    if levels > LEVELS:
        failures.append(name)


def check(model, cases, count):
    pipe = DiffusionPipeline.from_pretrained(model, torch_dtype=torch.float32)
    pipe.scheduler = DDIMScheduler.from_config(pipe.scheduler.config)
    pipe.set_progress_bar_config(disable=True)
    where = model.removeprefix(f"{ROOT}/")
    for case in cases:
        reference = theirs(pipe, case, 11, count)
        alone = ours(model, case, 11, count, 1)
        compare(f"{where} {json.dumps(case)}", reference, alone)
        if case in (CASES[1], TINY_ONLY[-1]):
            compare(f"{where} {json.dumps(case)} in batches of 3", alone, ours(model, case, 11, count, 3))


def main():
    # One thread on both sides: two wait for each other in networks this small.
    torch.set_num_threads(1)
    transformers.logging.set_verbosity_error()
    diffusers.logging.set_verbosity_error()
    for asked in sys.argv[2:]:
        model, _, lora = asked.partition("+")
        check(str(ROOT / model), [{"lora": (lora, 1.0)} if lora else {}], 1)
    if sys.argv[2:]:
        return
    check(str(ROOT / "tests/golden/generate/model"), CASES + TINY_ONLY, 2)
    for name in ("sdxl", "sd21"):
        check(str(ROOT / "tests/golden/families" / name), CASES + FAMILIES, 2)
    demo = ROOT / "assets/demo-model"
    if (demo / "unet").is_dir():
        check(str(demo), CASES, 1)
    else:
        print("assets/demo-model is not there: only the tiny model was compared")


main()
sys.exit(f"generate: {len(failures)} comparisons failed" if failures else 0)
