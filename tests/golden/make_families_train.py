"""The figures of three steps on the tiny SDXL and SD2.1-v, made by tools/recompute with diffusers: golden values of
tests/it/train/families.rs.

    .python/python tests/golden/make_families_train.py

families_train/base.toml is the configuration, CASES override keys of it as `--set` does, cases.json holds for every case the
overrides and for every step each figure as [value, below, above]: what `metrics.jsonl` may have.
"""

import json
import os
import pathlib
import sys
import tomllib

import torch

ROOT = pathlib.Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "tools"))

from recompute.compare import flat  # noqa: E402
from recompute.steps import Run  # noqa: E402

OUT = ROOT / "tests/golden/families_train"
SD21 = {"model.path": "tests/golden/families/sd21"}
FULL = {"lora.rank": 0, "optim.lr": 1e-4}
VELOCITY = {"model.prediction_type": "v_prediction", "model.zero_terminal_snr": True}
CASES = {
    "sdxl-lora": {},
    "sdxl-full-constant": FULL | {"model.time_ids": "constant", "model.clip_skip": 1},
    "sdxl-velocity-zero-snr": VELOCITY | {"data.crop": "center"},
    "sd21-lora": SD21,
    "sd21-full": SD21 | FULL,
    "sd21-zero-snr-native": SD21 | FULL | {"model.zero_terminal_snr": True, "method.error": "native"},
}


def overridden(config, overrides):
    for path, value in overrides.items():
        table, key = path.split(".")
        config[table][key] = value
    return config


def steps(config):
    run = Run(config)
    for _ in range(config["train"]["steps"]):
        figures = flat(run.next_step())
        yield {name: None if f is None else [f.value, f.below, f.above] for name, f in figures}


def main():
    os.chdir(ROOT)
    torch.set_num_threads(1)
    found = {}
    for name, overrides in CASES.items():
        config = overridden(tomllib.loads((OUT / "base.toml").read_text()), overrides)
        found[name] = {"set": overrides, "steps": list(steps(config))}
        print(name, found[name]["steps"][1]["margin"][0])
    lines = [f"{json.dumps(name)}: {json.dumps(case)}" for name, case in found.items()]
    (OUT / "cases.json").write_text("{\n" + ",\n".join(lines) + "\n}\n")


main()
