"""Files of this program in Python diffusers, and the reverse, live: the same pictures.

    .python/python tools/parity/formats.py [PROGRAM]     (default target/debug/diffpref)

For the tiny models of tests/golden (SD1, SDXL, and an SD2 that predicts velocity): diffusers loads the folders,
single-file checkpoints and LoRAs that `diffpref export` writes, and paints what it paints with the original. It saves a LoRA
of its own, text encoders and convolutions included, and paints what the program paints with it. The names of full-size
models: pipelines/tests/golden/make_original_keys.py.
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
from diffusers import DDIMScheduler, DiffusionPipeline, StableDiffusionPipeline, StableDiffusionXLPipeline
from peft import LoraConfig, get_peft_model_state_dict
from PIL import Image

ROOT = Path(__file__).resolve().parents[2]
PROGRAM = sys.argv[1] if len(sys.argv) > 1 else str(ROOT / "target/debug/diffpref")
LEVELS = 2
PROMPT = "a black cat!"
ENVIRONMENT = {k: v for k, v in os.environ.items() if k != "LD_LIBRARY_PATH"} | {"OMP_NUM_THREADS": "1"}
MODELS = {"generate/model": StableDiffusionPipeline, "families/sdxl": StableDiffusionXLPipeline, "families/sd21": StableDiffusionPipeline}
failures = []


def program(*arguments):
    subprocess.run([PROGRAM, *map(str, arguments)], check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, cwd=ROOT, env=ENVIRONMENT)


def export(out, format, *more):
    program("export", "--format", format, "--out", out, *more)
    return out


def ours(model, out, *more):
    program("generate", "--model", model, "--scheduler", "ddim", "--steps", 5, "--seed", 3, "--device", "cpu", "--prompt", PROMPT, "--out", out, *more)
    return Image.open(out / "000000-00.png").convert("RGB")


def load(kind, path, **options):
    pipe = kind.from_pretrained(path, torch_dtype=torch.float32, **options) if Path(path).is_dir() else kind.from_single_file(path, torch_dtype=torch.float32, **options)
    pipe.scheduler = DDIMScheduler.from_config(pipe.scheduler.config)
    pipe.set_progress_bar_config(disable=True)
    return pipe


def theirs(pipe):
    return pipe(PROMPT, num_inference_steps=5, generator=torch.Generator("cpu").manual_seed(3)).images[0]


def compare(name, a, b):
    levels = int(np.abs(np.asarray(a, dtype=int) - np.asarray(b, dtype=int)).max())
    verdict = "ok" if levels <= LEVELS else "FAILED"
    print(f"{name:70} at most {levels} levels off  {verdict}", flush=True)
    if levels > LEVELS:
        failures.append(name)


def fill(state, seed):
    generator = torch.Generator().manual_seed(seed)
    return {k: torch.randn(v.shape, generator=generator) * 0.1 for k, v in sorted(state.items())}


def save_lora(pipe, kind, folder):
    """A LoRA over attention, convolutions and every text encoder, of rank 3 and alpha 6, as diffusers saves it."""
    unet = LoraConfig(r=3, lora_alpha=6, target_modules=["to_q", "to_k", "to_v", "to_out.0", "proj_in", "ff.net.2", "conv1", "conv_shortcut", "time_emb_proj"])
    # All six, as kohya has them: of a kohya file without out_proj diffusers drops the other projections in silence.
    text = LoraConfig(r=3, lora_alpha=6, target_modules=["q_proj", "k_proj", "v_proj", "out_proj", "fc1", "fc2"])
    layers, metadata = {}, {}
    for part, config in {"unet": unet, "text_encoder": text, "text_encoder_2": text}.items():
        module = getattr(pipe, part, None)
        if module is None:
            continue
        module.add_adapter(config)
        state = fill(get_peft_model_state_dict(module), len(part))
        layers[f"{part}_lora_layers"] = state
        metadata[f"{part}_lora_adapter_metadata"] = {"r": 3, "lora_alpha": 6, "target_modules": sorted(config.target_modules)}
    kind.save_lora_weights(folder, **layers, **metadata)
    return folder / "pytorch_lora_weights.safetensors"


def check(name, kind, folder):
    model = ROOT / "tests/golden" / name
    none = {} if kind is StableDiffusionXLPipeline else {"safety_checker": None}
    original = theirs(load(kind, model, **none))
    compare(f"{name} as a folder", original, theirs(load(kind, export(folder / "folder", "diffusers", "--model", model), **none)))
    whole = export(folder / "whole.safetensors", "checkpoint", "--model", model, "--dtype", "float32")
    # A tiny model is of no known family: diffusers gets its configuration and expects the published names.
    pipe = load(kind, str(whole), config=str(model), local_files_only=True)
    compare(f"{name} as a checkpoint", original, theirs(pipe))

    lora = save_lora(load(kind, model, **none), kind, folder)
    worn = load(kind, model, **none)
    worn.load_lora_weights(str(folder), weight_name=lora.name)
    expected = theirs(worn)
    assert np.abs(np.asarray(expected, dtype=int) - np.asarray(original, dtype=int)).max() > 10 * LEVELS, "the LoRA does nothing"
    compare(f"{name}, a LoRA of diffusers here", expected, ours(model, folder / "pictures", "--lora", lora))
    for format in ("lora-peft", "lora-kohya"):
        file = export(folder / f"{format}.safetensors", format, "--model", model, "--lora", lora)
        again = load(kind, model, **none)
        again.load_lora_weights(str(folder), weight_name=file.name)
        compare(f"{name}, that LoRA through {format} in diffusers", expected, theirs(again))
    merged = export(folder / "merged", "diffusers", "--model", model, "--lora", lora, "--dtype", "float32")
    compare(f"{name}, that LoRA merged", expected, theirs(load(kind, merged, **none)))


def main():
    torch.set_num_threads(1)
    transformers.logging.set_verbosity_error()
    diffusers.logging.set_verbosity_error()
    for name, kind in MODELS.items():
        with tempfile.TemporaryDirectory() as folder:
            check(name, kind, Path(folder))
    sys.exit(f"formats: {len(failures)} comparisons failed" if failures else 0)


main()
