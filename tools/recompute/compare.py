"""Figures with the tolerance they are promised to, and their comparison with a line of metrics.jsonl."""

import math
from dataclasses import dataclass

import torch

# The promise for the first step: weights are equal on both sides, only float32 rounding differs.
# From the second step on the weights themselves differ: AdamW divides a gradient by its own size, so rounding in an
# element near 0 becomes a step of up to lr. Tolerances of later steps are looser by this factor.
LATER_STEPS = 10


@dataclass
class Tolerances:
    e: float = 2e-5  # relative
    h_floor: float = 1e-6  # of the largest error in h, at least of 1
    h: float = 1e-3  # relative
    grad_norm: float = 1e-3  # relative
    exact: float = 1e-9  # what is only arithmetic on the config: lr, epoch

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
        """How much of the tolerance the difference uses: 1 is all of it."""
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


def pair_figures(errors, beta, tolerances, timesteps, train_timesteps):
    """The figures every pair method logs. `errors`: theta_w, theta_l, ref_w, ref_l, [n] each, in epsilon space."""
    theta_w, theta_l, ref_w, ref_l = errors
    largest = torch.stack(errors).amax(0)
    h_w, h_l = ref_w - theta_w, ref_l - theta_l
    h = h_w - h_l
    t_w, t_l, t_h = (tolerances.of_h(x, largest) for x in (h_w, h_l, h))
    u, t_u = 0.5 * beta * h, 0.5 * beta * t_h
    negative, below = (h < 0).double().mean(), (h < -t_h).double().mean()
    tenths = []
    for tenth in range(10):
        chosen = (timesteps * 10) // train_timesteps == tenth
        tenths.append(within(h[chosen].mean(), t_h[chosen].mean()) if chosen.any() else None)
    return {
        "loss": within(torch.nn.functional.softplus(-u).mean(), (torch.sigmoid(t_u - u) * t_u).mean() + 1e-6),
        "implicit_acc": share(u, t_u),
        "margin": within(h.mean(), t_h.mean()),
        "reward_w": within(h_w.mean(), t_w.mean()),
        "reward_l": within(h_l.mean(), t_l.mean()),
        "model_mse_w": relative(theta_w.mean(), tolerances.e),
        "model_mse_l": relative(theta_l.mean(), tolerances.e),
        "ref_mse_w": relative(ref_w.mean(), tolerances.e),
        "ref_mse_l": relative(ref_l.mean(), tolerances.e),
        "gap_w": within(-h_w.mean(), t_w.mean()),
        "gap_l": within(-h_l.mean(), t_l.mean()),
        "gradient_factor": within(torch.sigmoid(-u).mean(), 0.25 * t_u.mean() + 1e-6),
        "negative_margin": Figure(float(negative), float(negative - below), float((h <= t_h).double().mean() - negative)),
        "margin_by_t": tenths,
    }


def flat(figures):
    """Every figure by name, the tenths of margin_by_t as `margin_by_t[i]`."""
    for name, figure in figures.items():
        if isinstance(figure, list):
            yield from ((f"{name}[{i}]", x) for i, x in enumerate(figure))
        else:
            yield name, figure


def differences(line, figures):
    """(name, logged, figure, agrees, used) of every figure; a tenth without pairs has to be null on both sides."""
    logged = dict(flat(line))
    for name, figure in flat(figures):
        other = logged.get(name)
        if figure is None or other is None:
            yield name, other, figure, figure is None and other is None, 0.0
        else:
            yield name, other, figure, figure.holds(other), figure.used(other)
