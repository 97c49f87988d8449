"""Makes tests/golden/data_draws.json: draws of the named streams as Python and torch make them.

    .python/python tests/golden/data_draws.py
"""

import hashlib
import json
import math
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


def discounted(u, gamma, n_bins, low, high):
    """docs/methods.md 2b, written independently of the program: the bins' shares are summed, not taken from a formula."""
    shares = [gamma**b for b in range(n_bins)]
    before = [math.fsum(shares[:b]) / math.fsum(shares) for b in range(n_bins + 1)]
    b = max(b for b in range(n_bins) if before[b] <= u)
    r = (u - before[b]) / (before[b + 1] - before[b])
    return high - math.floor((b + r) * (high - low + 1) / n_bins)


LAWS = {
    "narrow": lambda u: 100 + math.floor(u * 401),
    "list": lambda u: [249, 499, 749, 999][math.floor(u * 4)],
    "discounted": lambda u: discounted(u, 0.9, 50, 0, T - 1),
    "discounted_narrow": lambda u: discounted(u, 0.8, 10, 20, 979),
}

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
            "laws": {},
            "sides": [],
        }
        u = torch.rand(1, dtype=torch.float64, generator=generator(SEED, "timestep", d, id)).item()
        item["laws"] = {name: law(u) for name, law in LAWS.items()}
        for k in (0, 1):
            item["sides"].append(
                {
                    "noise": randn(SEED, "noise", d, k, id, shape=(1, 2, 2)),
                    "inversion": randn(SEED, "inversion", d, k, id, shape=(3, 1, 2, 2)),
                    "vae": randn(SEED, "vae", d, k, id, shape=(4, 3, 5)),
                    "flip": [(torch.rand(1, generator=generator(SEED, "flip", d, k, id)) < p).item() for p in (0.1, 0.5, 0.9)],
                    "crop": torch.randint(0, 4, (1,), generator=generator(SEED, "crop", d, k, id)).item(),
                }
            )
        golden["items"].append(item)
golden["val_noise"] = [{"j": j, "id": IDS[1], "value": randn(0, "val_noise", j, IDS[1], shape=(4, 3, 5))} for j in (0, 3)]
golden["slots"] = [{"share": s, "value": [(torch.rand(1, generator=generator(SEED, "slot", p)) < s).item() for p in range(40)]} for s in (0.8, 0.1)]
golden["class_order"] = [
    {"class": c, "pass": i, "n": n, "value": torch.randperm(n, generator=generator(SEED, "order", c, i)).tolist()}
    for c, i, n in (("desirable", 0, 5), ("undesirable", 0, 5), ("desirable", 2, 7))
]
name = "down_blocks.0.attentions.0.transformer_blocks.0.attn1.to_q"
golden["lora"] = {"name": name, "value": (torch.randn(4, 8, generator=generator(SEED, "lora", name)) / 4).flatten().tolist()}
pathlib.Path(__file__).with_suffix(".json").write_text(json.dumps(golden, indent=None, separators=(",", ":")) + "\n")
