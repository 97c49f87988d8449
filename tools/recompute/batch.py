"""Errors of items, of a whole step or of all validation draws, as read by losses and figures."""

import torch

from .data import LISTS, labelled
from .losses import LOGITS

RUNNING = 0.99  # decay of running means over steps


class RunningMean:
    """Bias-corrected mean over steps."""

    def __init__(self):
        self.total = self.weight = 0.0

    def add(self, value):
        self.total = RUNNING * self.total + (1 - RUNNING) * value
        self.weight = RUNNING * self.weight + 1 - RUNNING

    def value(self, first):
        """The mean of the steps before, in the first step `first`."""
        return self.total / self.weight if self.weight else first


class Batch:
    """N pictures of n items. `w` and `l` [m] are the pictures of every preferred pair (labelled
    images: of the two classes)."""

    def __init__(self, config, items, residuals, ref_residuals, factor, timesteps, weighting, beta, progress):
        """`residuals` [N, C, h, w]: prediction minus target, in the parameterisation that is trained; `factor` [N] turns
        their squares into errors; `timesteps`, `weighting` (lambda) [n]."""
        self.config, self.method, self.name = config, config["method"], config["method"]["name"]
        self.items, self.n, self.beta, self.progress = items, len(items), beta, progress
        self.timesteps = timesteps
        places, start = [], 0
        for item in items:
            places.append(range(start, start + len(item.images)))
            start += len(item.images)
        self.lists, owner = places, torch.tensor([i for i, x in enumerate(places) for _ in x])
        if labelled(self.method):
            liked = torch.tensor([x.desirable for x in items])
            self.w, self.l = liked.nonzero()[:, 0], (~liked).nonzero()[:, 0]
        else:
            pairs = [(x[i], x[j]) for x, item in zip(places, items) for i, j in item.better]
            self.w, self.l = (torch.tensor([pair[k] for pair in pairs], dtype=torch.long) for k in range(2))
        self.owner = owner
        self.tie = torch.tensor([item.tie for item in items for _ in item.better], dtype=torch.bool)
        self.phi = torch.tensor([x for item in items for x in item.phi], dtype=torch.float64)
        self.residuals, self.ref_residuals, self.factor = residuals, ref_residuals, factor
        self.scale = 0.5 * beta * weighting[owner] if beta is not None else None
        self.weighting = weighting[owner]
        self.native = residuals.square().mean((1, 2, 3))
        self.theta = self.native * factor
        self.lam = self.safeguard() if config.get("safeguard", {}).get("name", "none") == "sdpo" else None
        self.ref = None if ref_residuals is None else ref_residuals.square().mean((1, 2, 3)) * factor

    def safeguard(self):
        """Scales the gradient of losers, not their errors: lam of methods.md 11c for every pair."""
        errors = self.residuals.detach().flatten(1) * self.factor.sqrt().view(-1, 1)  # of noise, as every loss reads them
        of_w, of_l = (2 * errors[x] / errors.shape[1] for x in (self.w, self.l))
        inner, squared = (of_w * of_l).sum(1), of_w.square().sum(1)
        lam = ((1 - self.config["safeguard"]["mu"]) * squared / (inner + 1e-9)).clamp(0, 1)
        lam = torch.where(inner > 0, lam, torch.ones_like(lam))
        loser = self.theta[self.l]
        self.theta = self.theta.index_put((self.l,), loser.detach() + lam * (loser - loser.detach()))
        # Effect of rounding of an error on lam: larger, the closer the two gradients are to a right angle.
        self.steepness = (squared * of_l.square().sum(1)).sqrt() / inner.abs()
        return lam

    theta_w, theta_l = property(lambda self: self.theta[self.w]), property(lambda self: self.theta[self.l])
    ref_w, ref_l = property(lambda self: self.ref[self.w]), property(lambda self: self.ref[self.l])
    h = property(lambda self: self.ref - self.theta)
    g = property(lambda self: self.weighting * self.h)
    scale_w = property(lambda self: self.scale[self.w])
    z = property(lambda self: self.scale[self.w] * self.h[self.w])
    y = property(lambda self: self.scale[self.l] * self.h[self.l])
    paired = property(lambda self: not labelled(self.method))
    rewards = property(lambda self: self.scale * self.h)
    listed = property(lambda self: self.name in LISTS)

    @property
    def u(self):
        return LOGITS[self.name](self) if self.name in LOGITS else self.z - self.y

    def counted(self, terms):
        """Number of items that the mean loss is over: those with a loss of their own."""
        return self.n if self.listed else len(terms)

    def scores(self, scorer):
        return torch.tensor([item.scores[scorer] for item in self.items], dtype=self.theta.dtype)
