"""Pictures of this program against Python diffusers, live: tokens to bytes, the same files, prompts and seeds.

    .python/python tools/parity/generate.py [PROGRAM]     (default target/debug/diffpref)
    .python/python tools/parity/generate.py PROGRAM MODEL[+LORA] ..     only these, with the options of the first case

Models: the tiny random one of tests/golden/generate, under the scheduler files of Stable Diffusion 1.5, 2.1-v, SDXL
and a model
with zero terminal SNR; the tiny SDXL and 2.1-v models of tests/golden/families; the bundled demo model where it is there.
Negative models, for which diffusers has no pipeline, are compared with the loop of tests/golden/sides.py.
Fails where a channel of a pixel is off by more than 2, or where `--batch` changes more than that. Ends with the largest
deviation of each model and sampler.
"""

import collections
import json
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import diffusers
import numpy as np
import torch
import transformers
from PIL import Image
from safetensors.torch import save_file
from transformers import CLIPTextModel

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "tests/golden"))

from sides import of_case, other_unet, paint  # noqa: E402

PROGRAM = sys.argv[1] if len(sys.argv) > 1 else str(ROOT / "target/debug/diffpref")
LEVELS = 2
PROMPTS = ["red apple", "", "Water Buffalo!! with a VERY long tail, riding 2 honeybees over the moon and back again, don't stop 🦊 " * 4]
CLASSES = {
    "pndm": "PNDMScheduler",
    "ddim": "DDIMScheduler",
    "dpmpp_2m": "DPMSolverMultistepScheduler",
    "euler": "EulerDiscreteScheduler",
    "euler_a": "EulerAncestralDiscreteScheduler",
}
CASES = [
    {"scheduler": "ddim"},
    {"scheduler": "ddim", "eta": 1.0, "guidance_scale": 5.0},
    {"scheduler": "ddim", "guidance_scale": 1.0, "steps": 7},
    {"scheduler": "ddim", "negative_prompt": "blurry, grey", "eta": 0.3, "steps": 20},
]
TINY_ONLY = [
    {"scheduler": "ddim", "width": 48, "height": 24},
    {"scheduler": "ddim", "lora": ("tests/golden/generate/lora.safetensors", 0.7)},
    {"scheduler": "ddim", "lora": ("tests/golden/generate/lora.safetensors", -1.5), "negative_prompt": "red", "eta": 1.0},
]
FAMILIES = [
    {"scheduler": "ddim", "width": 48, "height": 24},
    {"scheduler": "ddim", "clip_skip": 1},
    {"scheduler": "ddim", "negative_prompt": "", "guidance_scale": 3.0},
]
SAMPLERS = [
    {"scheduler": "auto", "steps": 9},
    *({"scheduler": scheduler, "steps": 9, "guidance_scale": 5.0} for scheduler in CLASSES),
    {"scheduler": "dpmpp_2m", "karras": True, "steps": 20},
    {"scheduler": "euler", "karras": True, "steps": 9, "guidance_rescale": 0.7, "guidance_scale": 5.0},
]
# A picture of these is made in a batch, too.
BATCHED = [CASES[1], TINY_ONLY[-1], {"scheduler": "euler_a", "steps": 9, "guidance_scale": 5.0}]
# diffusers 0.42 looks for the final norm of a skipped layer there; transformers 5.6 and newer have no such level.
CLIPTextModel.text_model = property(lambda self: self)
ENVIRONMENT = {k: v for k, v in os.environ.items() if k != "LD_LIBRARY_PATH"} | {"OMP_NUM_THREADS": "1"}
failures = []
GRAPES = "a bowl of green grapes"
largest = collections.defaultdict(int)


def with_scheduler(pipe, own, case):
    """The pipeline with the sampler of a case, built from the model's own."""
    pipe.scheduler = own
    over = {"use_karras_sigmas": True} if case.get("karras") else {}
    if case["scheduler"] != "auto":
        pipe.scheduler = getattr(diffusers, CLASSES[case["scheduler"]]).from_config(own.config, **over)
    return pipe


def theirs(pipe, case, seed, count):
    """The pictures of diffusers, prompt by prompt, one at a time."""
    options = {k: v for k, v in case.items() if k not in ("steps", "lora", "scheduler", "karras")}
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
        command = [PROGRAM, "generate", "--model", model, "--scheduler", case["scheduler"], "--steps", case.get("steps", 10), "--seed", seed]
        command += ["--num-images", count, "--batch", batch, "--device", "cpu", "--out", out, "--json"]
        command += ["--karras"] if case.get("karras") else []
        for prompt in PROMPTS:
            command += ["--prompt", prompt]
        for key in ("eta", "guidance_scale", "guidance_rescale", "negative_prompt", "width", "height", "clip_skip"):
            if key in case:
                command.append(f"--{key.replace('_', '-')}={case[key]}")
        if "lora" in case:
            command += ["--lora", f"{ROOT / case['lora'][0]}:{case['lora'][1]}"]
        report = subprocess.run([str(c) for c in command], check=True, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, cwd=ROOT, env=ENVIRONMENT).stdout
        return [Image.open(f"{out}/{record['file']}").convert("RGB") for record in json.loads(report)["images"]]


def compare(model, case, how, a, b):
    levels = max(int(np.abs(np.asarray(x, dtype=int) - np.asarray(y, dtype=int)).max()) for x, y in zip(a, b, strict=True))
    share = np.mean([(np.asarray(x) != np.asarray(y)).mean() for x, y in zip(a, b)])
    name = f"{model} {json.dumps(case)}{how}"
    verdict = "ok" if levels <= LEVELS else "FAILED"
    print(f"{name:100} {len(a):2} pictures, at most {levels} levels off, {share:.4%} of the values  {verdict}", flush=True)
    sampler = case["scheduler"] + (" karras" if case.get("karras") else "")
    largest[model, sampler] = max(largest[model, sampler], levels)
    if levels > LEVELS:
        failures.append(name)


def check(folder, name, cases, count):
    pipe = diffusers.DiffusionPipeline.from_pretrained(folder, torch_dtype=torch.float32)
    pipe.set_progress_bar_config(disable=True)
    own = pipe.scheduler
    for case in cases:
        reference = theirs(with_scheduler(pipe, own, case), case, 11, count)
        alone = ours(folder, case, 11, count, 1)
        compare(name, case, "", reference, alone)
        if case in BATCHED:
            compare(name, case, " in batches of 3", alone, ours(folder, case, 11, count, 3))


def between_networks(folder, name, loras):
    """Negative models, every case of the golden pictures with another prompt and other seeds.

    As few steps and as little guidance as there: with 15 steps at scale 5 the reference itself moves by up to 23
    levels in one case
    (SDXL, a LoRA of 1.5 on the negative side) when its noise changes by a 1e-7th.
    """
    pipe = diffusers.DiffusionPipeline.from_pretrained(folder, torch_dtype=torch.float32)
    cases = json.loads((ROOT / "tests/golden/negative/cases.json").read_text())["cases"]
    with tempfile.TemporaryDirectory() as place:
        unet = Path(place) / "unet"
        shutil.copytree(Path(folder) / "unet", unet)
        save_file({k: v.contiguous() for k, v in other_unet(pipe.unet.state_dict()).items()}, unet / "diffusion_pytorch_model.safetensors")
        for case in cases.values():
            case = {k: [[f"{loras}-{file}.safetensors", s] for file, s in v] if k.endswith("lora") else v for k, v in case.items()}
            positive, negative = of_case(pipe, case, ROOT / "tests/golden/negative")
            options = {"rescale": case.get("rescale", 0.0), "lam": case.get("lam")}
            reference = [paint(pipe, positive, negative, GRAPES, case.get("negative_prompt"), seed, 8, 4.0, **options) for seed in (11, 12)]
            command = [PROGRAM, "generate", "--model", folder, "--prompt", GRAPES, "--scheduler", "ddim", "--steps", 8, "--seed", 11]
            command += ["--num-images", 2, "--device", "cpu", "--out", f"{place}/out", "--json"]
            command += ["--cfg-plus-plus", case["lam"]] if "lam" in case else ["--guidance-scale", 4]
            for key in ("unet", "negative_unet"):
                command += [f"--{key.replace('_', '-')}", unet] if case.get(key) else []
            for key in ("lora", "negative_lora"):
                for file, scale in case.get(key, []):
                    command += [f"--{key.replace('_', '-')}", f"{ROOT}/tests/golden/negative/{file}:{scale}"]
            command += ["--negative-merge", ",".join(map(str, case["negative_merge"]))] if "negative_merge" in case else []
            command += ["--negative-prompt", case["negative_prompt"]] if "negative_prompt" in case else []
            command += ["--guidance-rescale", case["rescale"]] if "rescale" in case else []
            report = subprocess.run([str(c) for c in command], check=True, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, env=ENVIRONMENT).stdout
            made = [Image.open(f"{place}/out/{record['file']}").convert("RGB") for record in json.loads(report)["images"]]
            compare(name, {"scheduler": "ddim"} | case, "", reference, made)
            shutil.rmtree(f"{place}/out")


def under_other_schedulers(folder):
    """The tiny model under every scheduler file of the golden values."""
    files = json.loads((ROOT / "pipelines/tests/golden/samplers.json").read_text())["files"]
    for name, file in files.items():
        with tempfile.TemporaryDirectory() as place:
            copy = Path(place) / "model"
            shutil.copytree(folder, copy)
            (copy / "scheduler/scheduler_config.json").write_text(json.dumps(file))
            index = json.loads((copy / "model_index.json").read_text()) | {"scheduler": ["diffusers", file["_class_name"]]}
            (copy / "model_index.json").write_text(json.dumps(index))
            check(str(copy), f"tiny as {name}", SAMPLERS, 1)


def main():
    # One thread on both sides: two wait for each other in networks this small.
    torch.set_num_threads(1)
    transformers.logging.set_verbosity_error()
    transformers.utils.logging.disable_progress_bar()
    diffusers.logging.set_verbosity_error()
    diffusers.utils.logging.disable_progress_bar()
    if sys.argv[2:]:
        for asked in sys.argv[2:]:
            model, _, lora = asked.partition("+")
            check(str(ROOT / model), asked, [{"scheduler": "ddim"} | ({"lora": (lora, 1.0)} if lora else {})], 1)
        sys.exit(f"generate: {len(failures)} comparisons failed" if failures else 0)
    tiny = ROOT / "tests/golden/generate/model"
    check(str(tiny), "tiny", CASES + TINY_ONLY, 2)
    under_other_schedulers(tiny)
    between_networks(str(tiny), "tiny between two networks", "sd")
    between_networks(str(ROOT / "tests/golden/families/sdxl"), "sdxl between two networks", "sdxl")
    for name in ("sdxl", "sd21"):
        folder = ROOT / "tests/golden/families" / name
        # without skip_prk_steps PNDM would start with Runge-Kutta steps
        says = json.loads((folder / "scheduler/scheduler_config.json").read_text()).get("skip_prk_steps")
        check(str(folder), name, CASES + FAMILIES + [c for c in SAMPLERS if says or c["scheduler"] != "pndm"], 1)
    demo = ROOT / "assets/demo-model"
    if (demo / "unet").is_dir():
        check(str(demo), "demo", CASES + SAMPLERS, 1)
    else:
        print("assets/demo-model is not there: only tiny models were compared")
    print("\nlargest deviation in levels:")
    for (model, sampler), levels in sorted(largest.items()):
        print(f"  {model:20} {sampler:20} {levels}")
    sys.exit(f"generate: {len(failures)} comparisons failed" if failures else 0)


main()
sys.exit(f"generate: {len(failures)} comparisons failed" if failures else 0)
