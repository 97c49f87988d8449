"""Pictures between two networks: golden values of tests/negative.rs, made by hand (sides.py) with the tiny models of
make_generate.py and make_families.py.

    .python/python tests/golden/make_negative.py

    negative/MODEL-{good,bad}.safetensors   LoRAs in PEFT naming, with a part for every text encoder
    negative/MODEL-CASE.png, cases.json     pictures of seed 5, and the options of each case; `unet: true` is sides.other_unet
"""

import json
import pathlib
import shutil

import diffusers
import torch
from safetensors.torch import save_file
from sides import PARTS, of_case, paint

HERE = pathlib.Path(__file__).parent
OUT = HERE / "negative"
PROMPT = "a black cat in the forest"
MODELS = {"sd": HERE / "generate/model", "sdxl": HERE / "families/sdxl"}
BOTH = {"lora": [["good", 0.8]], "negative_lora": [["bad", 1.0]]}
CASES = {
    "none": {},
    "unet": {"negative_unet": True},
    "loras": BOTH | {"negative_prompt": "red apple"},
    "lora": {"negative_lora": [["bad", 1.5]], "negative_prompt": "red apple"},
    "mixed": {"unet": True, "negative_lora": [["bad", 1.0]]},
    "npo": BOTH | {"negative_merge": [1.0, 1.0], "negative_prompt": "red apple"},
    "merge": BOTH | {"unet": True, "negative_merge": [0.6, 0.5], "rescale": 0.7},
    "merge-unets": {"negative_unet": True, "lora": [["good", 0.8]], "negative_merge": [0.5, 0.75]},
    "plus-plus": BOTH | {"lam": 0.6},
}


def lora(pipe, seed, spread):
    """Rank 2 on attention: of the UNet everywhere, of the text encoders on queries and values."""
    generator = torch.Generator().manual_seed(seed)
    tensors = {}
    for part in PARTS:
        network = getattr(pipe, part, None)
        ends = ("to_q", "to_k", "to_v", "to_out.0") if part == "unet" else ("q_proj", "v_proj")
        for name, module in sorted(network.named_modules()) if network is not None else []:
            if name.endswith(ends):
                path = name if part == "unet" or name.startswith("text_model.") else f"text_model.{name}"
                tensors[f"{part}.{path}.lora_A.weight"] = torch.randn(2, module.in_features, generator=generator) * spread
                tensors[f"{part}.{path}.lora_B.weight"] = torch.randn(module.out_features, 2, generator=generator) * spread
    return tensors


def main():
    torch.set_num_threads(1)
    shutil.rmtree(OUT, ignore_errors=True)
    OUT.mkdir()
    for model, folder in MODELS.items():
        pipe = diffusers.DiffusionPipeline.from_pretrained(folder, torch_dtype=torch.float32)
        for seed, name in ((31, "good"), (32, "bad")):
            save_file(lora(pipe, seed, 0.35), OUT / f"{model}-{name}.safetensors", metadata={"format": "pt"})
        for name, case in CASES.items():
            files = {k: [[f"{model}-{lora}.safetensors", s] for lora, s in v] if k.endswith("lora") else v for k, v in case.items()}
            positive, negative = of_case(pipe, files, OUT)
            options = {"rescale": case.get("rescale", 0.0), "lam": case.get("lam")}
            image = paint(pipe, positive, negative, PROMPT, case.get("negative_prompt"), 5, 8, 4.0, **options)
            image.save(OUT / f"{model}-{name}.png")
    text = json.dumps({"prompt": PROMPT, "steps": 8, "guidance_scale": 4.0, "seed": 5, "cases": CASES}, indent=1)
    (OUT / "cases.json").write_text(text + "\n")


main()
