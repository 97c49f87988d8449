"""Figures with their promised tolerance, and their comparison with a line of metrics.jsonl."""

import math
from dataclasses import dataclass

import torch

# The promise for the first step: weights are equal on both sides, only float32 rounding differs.
# From the second step on the weights themselves differ: AdamW divides a gradient by its own size, so rounding in an
# element near 0 becomes a step of up to lr. Tolerances of later steps are looser by this factor.
LATER_STEPS = 10
MEASURED = {"step", "pairs_per_s", "s_per_step", "data_wait_s", "peak_mem_gib", "spike"}  # not of the mathematics


@dataclass
class Tolerances:
    e: float = 2e-5  # relative
    h_floor: float = 1e-6  # of the largest error in h, at least of 1
    h: float = 1e-3  # relative
    grad_norm: float = 1e-3  # relative
    exact: float = 1e-9  # plain arithmetic on the config: lr, epoch

    @classmethod
    def of_step(cls, step):
        factor = 1 if step == 1 else LATER_STEPS
        return cls(*(factor * x for x in (2e-5, 1e-6, 1e-3, 1e-3)))

    def of_h(self, h, largest):
        return self.h_floor * largest.clamp(min=1) + self.h * h.abs()


@dataclass
class Figure:
    """A recomputed value: the other side agrees from `value - below` to `value + above`."""

    value: float
    below: float
    above: float

    def holds(self, other):
        return self.value - self.below <= other <= self.value + self.above

    def used(self, other):
        """Difference as a fraction of the tolerance."""
        allowed = self.above if other >= self.value else self.below
        difference = abs(other - self.value)
        return 0.0 if difference == 0 else difference / allowed if allowed else math.inf


def within(value, tolerance):
    return Figure(float(value), float(tolerance), float(tolerance))


def relative(value, tolerance):
    return within(value, tolerance * abs(float(value)))


def share(values, tolerance):
    """Mean of 1[x > 0] + 0.5 1[x = 0]; a value that is 0 within its tolerance may count either way."""
    mean = ((values > 0).double() + 0.5 * (values == 0).double()).mean()
    lowest, highest = (values > tolerance).double().mean(), (values >= -tolerance).double().mean()
    return Figure(float(mean), float(mean - lowest), float(highest - mean))


def flat(figures):
    """Every figure by name, the tenths of margin_by_t as `margin_by_t[i]`."""
    for name, figure in figures.items():
        if isinstance(figure, list):
            yield from ((f"{name}[{i}]", x) for i, x in enumerate(figure))
        else:
            yield name, figure


def differences(line, figures):
    """(name, logged, figure, agrees, used) of every figure; figures missing on one side count as differing; a tenth
    without pairs must be null on both."""
    logged, found = dict(flat(line)), dict(flat(figures))
    for name in [*found, *(x for x in logged if x not in found and x not in MEASURED)]:
        figure, other = found.get(name), logged.get(name)
        if figure is None or other is None:
            yield name, other, figure, figure is None and other is None, 0.0
        else:
            yield name, other, figure, figure.holds(other), figure.used(other)
