"""Makes tests/golden/data_draws.json: draws of the named streams as Python and torch make them.

    .python/python tests/golden/data_draws.py
"""

import hashlib
import json
import pathlib

import torch

T = 1000


def key(seed, stream, *ids):
    text = ":".join(["diffpref", str(seed), stream, *map(str, ids)])
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "little") & (2**63 - 1)


def generator(*args):
    return torch.Generator("cpu").manual_seed(key(*args))


def randn(*args, shape):
    return torch.randn(shape, generator=generator(*args)).flatten().tolist()


IDS = ["0", "row-17", "a cat, \u00e9t\u00e9 \U0001f98a"]
SEED = 42
keys = [[s, stream, ids] for s in (0, 42, 2**31) for stream in ("order", "noise", "lora") for ids in ([0], [3, "x"], [1, 0, IDS[2]])]
golden = {
    "seed": SEED,
    "keys": [{"seed": s, "stream": st, "ids": list(map(str, i)), "key": str(key(s, st, *i))} for s, st, i in keys],
    "order": [
        {"epoch": e, "n": n, "value": torch.randperm(n, generator=generator(SEED, "order", e)).tolist()}
        for e, n in ((0, 1), (0, 7), (1, 7), (5, 300))
    ],
    "items": [],
    "splits": [{"prompt": p, "held_out": key(0, "split", p) < f * 2**63, "fraction": f} for p in map("prompt {}".format, range(40)) for f in (0.05, 0.5)],
}
for d in (0, 3):
    for id in IDS:
        item = {
            "d": d,
            "id": id,
            "timestep": torch.randint(0, T, (1,), generator=generator(SEED, "timestep", d, id)).item(),
            "noise": randn(SEED, "noise", d, id, shape=(4, 3, 5)),
            "small_noise": randn(SEED, "noise", d, id, shape=(1, 2, 2)),
            "dropout": (torch.rand(1, generator=generator(SEED, "dropout", d, id)) < 0.2).item(),
            "sides": [],
        }
        for k in (0, 1):
            item["sides"].append(
                {
                    "vae": randn(SEED, "vae", d, k, id, shape=(4, 3, 5)),
                    "flip": [(torch.rand(1, generator=generator(SEED, "flip", d, k, id)) < p).item() for p in (0.1, 0.5, 0.9)],
                    "crop": torch.randint(0, 4, (1,), generator=generator(SEED, "crop", d, k, id)).item(),
                }
            )
        golden["items"].append(item)
golden["val_noise"] = [{"j": j, "id": IDS[1], "value": randn(0, "val_noise", j, IDS[1], shape=(4, 3, 5))} for j in (0, 3)]
name = "down_blocks.0.attentions.0.transformer_blocks.0.attn1.to_q"
golden["lora"] = {"name": name, "value": (torch.randn(4, 8, generator=generator(SEED, "lora", name)) / 4).flatten().tolist()}
pathlib.Path(__file__).with_suffix(".json").write_text(json.dumps(golden, indent=None, separators=(",", ":")) + "\n")
