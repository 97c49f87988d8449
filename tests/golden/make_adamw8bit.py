"""Writes adamw8bit.safetensors, the golden file of src/optimizer/tests.rs: AdamW with block-wise 8-bit moments, written in
numpy from the description in docs/train.md and arXiv 2110.02861.

    .python/python tests/golden/make_adamw8bit.py

`map.signed`, `map.unsigned` `[256]`. Per tensor NAME: `NAME.start`, `NAME.grad.S` for the steps S = 1 .., and after the last
`NAME.after` and the state: `NAME.exp_avg` and `NAME.exp_avg_sq` (numbers of map entries, `[blocks, 256]`, or moments of
small tensors), `NAME.exp_avg_absmax`, `NAME.exp_avg_sq_absmax`. The rate of step S is LR / S. All in float64, so that no
rounding but that of the map matters; absmax is rounded to float32 as it is stored.
"""

from pathlib import Path

import numpy
from safetensors.numpy import save_file

SHAPES = {"bias": (6,), "large": (66, 63), "whole": (16, 4, 8, 8)}
STEPS, LR, BETAS, EPS, WEIGHT_DECAY = 3, 3e-3, (0.9, 0.999), 1e-8, 1e-2
BLOCK, LEAST = 256, 4096


def dynamic_map(signed):
    """bitsandbytes' create_dynamic_map: midpoints of linspace(0.1, 1) with a power of two of parts, at a power of ten."""
    values = [0.0, 1.0]
    for exponent in range(7):
        edges = numpy.linspace(0.1, 1, 2 ** (exponent if signed else exponent + 1) + 1)
        middles = 10.0 ** (exponent - 6) * (edges[1:] + edges[:-1]) / 2
        values += [*middles, *(-middles if signed else [])]
    assert len(values) == 256
    return numpy.sort(values)


def blocks(values):
    return numpy.pad(values.ravel(), (0, -values.size % BLOCK)).reshape(-1, BLOCK)


class Moment:
    def __init__(self, numel, signed):
        self.map, self.signed = dynamic_map(signed), signed
        count = -(-numel // BLOCK)
        self.codes = numpy.full((count, BLOCK), numpy.searchsorted(self.map, 0.0), numpy.uint8)
        self.absmax = numpy.zeros(count, numpy.float32)

    def read(self):
        return self.map[self.codes] * self.absmax.astype(numpy.float64)[:, None]

    def write(self, values):
        absmax = numpy.abs(values).max(1)
        scaled = values / numpy.where(absmax > 0, absmax, 1)[:, None]
        distance = numpy.abs(scaled[:, :, None] - self.map)
        self.codes = distance.argmin(2).astype(numpy.uint8)
        if not self.signed:
            self.codes = numpy.where((values > 0) & (self.codes == 0), 1, self.codes).astype(numpy.uint8)
        self.absmax = absmax.astype(numpy.float32)


tensors = {"map.signed": dynamic_map(True), "map.unsigned": dynamic_map(False)}
random = numpy.random.default_rng(11)
for name, shape in SHAPES.items():
    param = random.standard_normal(shape)
    tensors[f"{name}.start"] = param.copy()
    numel = param.size
    small = numel < LEAST
    moments = [Moment(numel, True), Moment(numel, False)]
    plain = [numpy.zeros_like(param), numpy.zeros_like(param)]
    lifted = 0
    for s in range(1, STEPS + 1):
        # Sizes over many decades within a block, some values exactly 0.
        grad = random.standard_normal(shape) * 10.0 ** random.uniform(-8, 0, shape) * (random.random(shape) < 0.95)
        tensors[f"{name}.grad.{s}"] = grad
        m, v = plain if small else [moment.read().ravel()[:numel].reshape(shape) for moment in moments]
        m, v = BETAS[0] * m + (1 - BETAS[0]) * grad, BETAS[1] * v + (1 - BETAS[1]) * grad**2
        rate = LR / s
        param = param * (1 - rate * WEIGHT_DECAY)
        denominator = numpy.sqrt(v) / numpy.sqrt(1 - BETAS[1] ** s) + EPS
        param = param - rate / (1 - BETAS[0] ** s) * m / denominator
        plain = [m, v]
        for moment, values in zip(moments, (m, v)):
            moment.write(blocks(values))
        lifted += int(((moments[1].codes == 1) & (blocks(v) > 0)).sum())
    tensors[f"{name}.after"] = param
    if small:
        tensors |= {f"{name}.exp_avg": plain[0], f"{name}.exp_avg_sq": plain[1]}
        continue
    assert lifted > 0, "no second moment is small enough to be lifted"
    for key, moment in zip(("exp_avg", "exp_avg_sq"), moments):
        tensors |= {f"{name}.{key}": moment.codes, f"{name}.{key}_absmax": moment.absmax}
save_file({key: numpy.ascontiguousarray(value) for key, value in tensors.items()}, Path(__file__).parent / "adamw8bit.safetensors")
