"""Latents on the policy's own path: DDIM inversion and ReNoise (methods.md 4, 5)."""

import math
from dataclasses import dataclass

import torch


@dataclass
class Inverted:
    """Of the B pictures of one item: latents at `timestep`, the noise that leads there, the policy's last prediction."""

    timestep: int
    noisy: torch.Tensor
    tau: torch.Tensor
    last: torch.Tensor


def steps_to(t, kind, n):
    """[(source, destination)]: the steps of an inversion to t, n of them for the whole way."""
    if kind == "published":
        spacing = 1000 // n
        sources = (1 + i * spacing for i in range(-1, n - 1))
        return [(source, source + spacing) for source in sources if source < t]
    m = math.ceil(t * n / 1000)
    levels = [(2 * i * t + m) // (2 * m) for i in range(m + 1)]
    return list(zip(levels, levels[1:]))


@torch.no_grad()
def invert(networks, latents, conditions, t, method, noise):
    """`latents` [B, C, h, w] of one item; `noise(m)` gives [B, m, C, h, w], where the inversion adds any."""
    kind, renoise, eta = method["inversion"], method["name"] == "smpo", method.get("inversion_eta", 0)
    t = max(t, 1) if kind == "exact" else t
    x = x0 = latents.to(networks.dtype)
    at = lambda level: torch.full((len(x),), level)
    last, steps = torch.zeros_like(x), steps_to(t, kind, method["inversion_steps"])
    added = noise(len(steps)).to(networks.dtype) if eta else None
    for i, (source, destination) in enumerate(steps):
        (a, s), (b, r) = networks.levels(at(source)), networks.levels(at(destination))
        move = lambda eps, x=x, a=a, s=s, b=b, r=r: b * (x - s * eps) / a + r * eps
        first = last = networks.predict_noise("policy", x, at(source), conditions)
        moved = move(first)
        if renoise:
            label = destination if kind == "exact" else source
            last = networks.predict_noise("policy", moved, at(label), conditions)
            moved = move((first + last) / 2)
        if eta:
            variance = (s / r).square() * (1 - (b / a).square())
            moved = moved + eta * variance.clamp(min=0).sqrt() * added[:, i]
        x = moved
    a, s = networks.levels(at(t))
    return Inverted(t, x, (x - a * x0) / s, last)
