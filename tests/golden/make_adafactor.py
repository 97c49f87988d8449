"""Writes adafactor.safetensors, the golden file of src/train/optimizer/tests.rs: transformers' Adafactor on tensors of
one, two and four dimensions.

    .python/python tests/golden/make_adafactor.py

For CASE in float32, float64: `CASE.NAME.start`, `CASE.NAME.grad.S` and `CASE.NAME.after.S` for the steps S = 1.., and
after the last the state `CASE.NAME.exp_avg_sq[_row|_col]`. The rate of step S is LR / S.
"""

from pathlib import Path

import torch
from safetensors.torch import save_file
from transformers.optimization import Adafactor

SHAPES = {"bias": (6,), "matrix": (5, 7), "convolution": (4, 3, 3, 3), "pointwise": (4, 3, 1, 1)}
STEPS, LR, WEIGHT_DECAY = 4, 3e-3, 1e-2

tensors = {}
for case, dtype in {"float32": torch.float32, "float64": torch.float64}.items():
    generator = torch.Generator("cpu").manual_seed(7)
    params = {name: torch.nn.Parameter(torch.randn(shape, generator=generator).to(dtype)) for name, shape in SHAPES.items()}
    optimizer = Adafactor(
        params.values(), lr=LR, eps=(1e-30, 1e-3), clip_threshold=1.0, decay_rate=-0.8, beta1=None,
        weight_decay=WEIGHT_DECAY, scale_parameter=False, relative_step=False, warmup_init=False,
    )
    tensors |= {f"{case}.{name}.start": p.detach().clone() for name, p in params.items()}
    clipped = set()
    for s in range(1, STEPS + 1):
        optimizer.param_groups[0]["lr"] = LR / s
        for name, p in params.items():
            # A gradient that grows makes updates larger than their running mean: clipped. One that shrinks: not.
            scale = 3.0**s if s % 2 == 0 else 0.05
            p.grad = (torch.randn(p.shape, generator=generator) * 1e-3 * scale).to(dtype)
            tensors[f"{case}.{name}.grad.{s}"] = p.grad.clone()
        before = {name: p.detach().clone() for name, p in params.items()}
        optimizer.step()
        for name, p in params.items():
            tensors[f"{case}.{name}.after.{s}"] = p.detach().clone()
            moved = before[name] * (1 - WEIGHT_DECAY * LR / s) - p.detach()
            rms = float(moved.norm() / moved.numel() ** 0.5 / (LR / s))
            assert rms < 1 + 1e-3
            clipped.add((name, rms > 1 - 1e-3))
    assert len(clipped) == 2 * len(SHAPES), f"every tensor has steps that are clipped and steps that are not: {clipped}"
    for name, p in params.items():
        state = {key: value for key, value in optimizer.state[p].items() if key.startswith("exp_avg_sq")}
        tensors |= {f"{case}.{name}.{key}": value.clone() for key, value in state.items()}
save_file(tensors, Path(__file__).parent / "adafactor.safetensors", {"format": "pt"})
