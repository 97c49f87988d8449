"""Loss weights, their means, and the other statistics of a run (methods.md 0.7)."""

import math
from dataclasses import dataclass, field

import torch

from .batch import RunningMean
from .losses import WEIGHTS, anchored, factor, gains, positions

EDGES = (0.1, 0.3, 1.0, 3.0)  # of weight_hist


@dataclass
class Memory:
    """State kept between steps."""

    h: RunningMean = field(default_factory=RunningMean)
    wpo: RunningMean = field(default_factory=RunningMean)
    weight: RunningMean = field(default_factory=RunningMean)
    logits: list = field(default_factory=list)  # bco: every z and y so far
    anchor: float = 0.0  # uapo: d


class Weights:
    """Weights of a run: of the data, of the method, or both."""

    def __init__(self, config, train):
        table = config.get("weights", {})
        self.table, self.source, self.name = table, table.get("source", "none"), config["method"]["name"]
        self.as_published, self.memory = table.get("as_published", False), Memory()
        self.active = self.source != "none" or self.name in WEIGHTS
        self.data_mean = torch.tensor([self.of_item(x) for x in train], dtype=torch.float64).mean().item()
        self.list_mean = self.mean_of_lists(train) if self.name == "rankdpo" else None

    def of_item(self, item):
        if self.source != "videodpo":
            return item.weight
        return (self.table["c"] / item.weight) ** self.table["b"]

    @staticmethod
    def mean_of_lists(train):
        """Mean Delta over all two pictures of all lists, those of equal phi left out: they are no pair."""
        found = [gains(Ranked(item), positions(Ranked(item).phi, [range(len(item.phi))])) for item in train]
        return torch.cat(found).mean().item()

    def statistics(self, b):
        """Statistics of this step and those before, from errors alone; stores bco's logits."""
        with torch.no_grad():
            if self.name == "wpo":
                self.reference_mean = (b.ref_w + b.ref_l).mean().item()
                b.wpo_mean = self.memory.wpo.value(self.reference_mean)
            if self.name == "bco":
                self.memory.logits += [*b.z.tolist(), *b.y.tolist()]
            self.thresholds(b)

    def thresholds(self, b):
        if self.name == "bco":
            b.bco_threshold = math.fsum(self.memory.logits) / len(self.memory.logits)
        if self.name == "kto":
            b.kl = b.g.detach().mean()
        if self.name == "uapo":
            b.uapo_anchor = self.memory.anchor

    def __call__(self, b, terms):
        """[m] weights of a step's terms; stores their mean."""
        owner = torch.arange(b.n) if len(terms) == b.n else b.owner[b.w]
        weights = torch.ones(len(terms), dtype=torch.float64)
        if self.source != "none":
            weights *= torch.tensor([self.of_item(x) for x in b.items], dtype=torch.float64)[owner]
            weights /= 1 if self.as_published else self.data_mean
        if self.name in WEIGHTS:
            own = WEIGHTS[self.name](b).detach().double()
            mean = own.mean().item() if len(own) else math.nan
            if not self.as_published:
                weights /= self.list_mean if self.list_mean is not None else self.memory.weight.value(mean)
            weights *= own
            if len(own):
                self.memory.weight.add(mean)
        return weights

    def remember(self, b):
        """Updates the means for the next step."""
        if self.name == "uapo":
            with torch.enable_grad():
                d = torch.tensor(b.uapo_anchor, dtype=torch.float64, requires_grad=True)
                z, y = (x.detach() for x in (b.rewards[b.w], b.rewards[b.l]))
                (slope,) = torch.autograd.grad(sum(x.sum() for x in anchored(z, y, d)) / b.n, d)
            self.memory.anchor -= b.method["anchor_lr"] * slope.item()
        if self.name == "wpo":
            self.memory.wpo.add(self.reference_mean)
        if b.ref is not None and b.paired:
            h = (b.h[b.w] - b.h[b.l]).detach()[~b.tie]
            if len(h):
                self.memory.h.add(h.abs().mean().item())

    @staticmethod
    def effective(b, weights):
        """[m] weights of pairs: loss weights, and factors inside the logits."""
        inside = factor(b)
        return weights if inside is None else weights * inside


class Ranked:
    """One list as `gains` reads it."""

    def __init__(self, item):
        self.phi = torch.tensor(item.phi, dtype=torch.float64)
        self.w, self.l = (torch.tensor([pair[k] for pair in item.better], dtype=torch.long) for k in range(2))
