"""The named random streams of a run. Every draw is `torch.Generator("cpu").manual_seed(key(seed, stream, *ids))`."""

import hashlib
import itertools
import math

import torch


def key(seed, stream, *ids):
    """The 63-bit seed of one draw: a hash of the run's seed, the stream's name and the ids."""
    text = ":".join(["diffpref", str(seed), stream, *map(str, ids)])
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "little") & (2**63 - 1)


def timestep_of(u, law):
    """The timestep where the distribution function of `[timesteps]` reaches u, in [0, 1)."""
    if law["law"] == "list":
        return law["values"][math.floor(u * len(law["values"]))]
    low, high = law["min"], law["max"]
    width = high - low + 1
    if law["law"] == "uniform":
        return low + math.floor(u * width)
    gamma, bins = law["gamma"], law["n_bins"]
    before = [b / bins if gamma == 1 else (1 - gamma**b) / (1 - gamma**bins) for b in range(bins + 1)]
    b = next(b for b in range(bins) if u < before[b + 1])
    r = (u - before[b]) / (before[b + 1] - before[b])
    return high - min(math.floor((b + r) * width / bins), width - 1)


class Draws:
    """Draws of one run: `d` is the draw index of an item (the pass over its class, or that mod draws_per_pair), `k` the place
    of an image in its item: 0 the winner, 1 the loser."""

    def __init__(self, seed, draws_per_pair):
        self.seed, self.draws_per_pair = seed, draws_per_pair

    def generator(self, stream, *ids, seed=None):
        return torch.Generator("cpu").manual_seed(key(self.seed if seed is None else seed, stream, *ids))

    def order(self, epoch, n):
        return torch.randperm(n, generator=self.generator("order", epoch)).tolist()

    def index(self, epoch):
        return epoch % self.draws_per_pair if self.draws_per_pair else epoch

    def class_order(self, name, turn, n):
        return torch.randperm(n, generator=self.generator("order", name, turn)).tolist()

    def slot(self, position, share):
        return bool(torch.rand(1, generator=self.generator("slot", position)) < share)

    def timestep(self, d, item, train_timesteps, law):
        generator = self.generator("timestep", d, item)
        if law["law"] == "uniform" and (law["min"], law["max"]) == (0, train_timesteps - 1):
            return torch.randint(0, train_timesteps, (1,), generator=generator).item()
        return timestep_of(torch.rand(1, dtype=torch.float64, generator=generator).item(), law)

    def noise(self, d, item, shape):
        return torch.randn(shape, generator=self.generator("noise", d, item))

    def image_noise(self, d, k, item, shape):
        return torch.randn(shape, generator=self.generator("noise", d, k, item))

    def inversion(self, d, k, item, steps, shape):
        return torch.randn(steps, *shape, generator=self.generator("inversion", d, k, item))

    def posterior(self, d, k, item, shape):
        return torch.randn(shape, generator=self.generator("vae", d, k, item))

    def flip(self, d, k, item, probability):
        return bool(torch.rand(1, generator=self.generator("flip", d, k, item)) < probability)

    def crop(self, d, k, item, crops):
        return torch.randint(0, crops, (1,), generator=self.generator("crop", d, k, item)).item()

    def dropout(self, d, item, probability):
        return bool(torch.rand(1, generator=self.generator("dropout", d, item)) < probability)

    def lora(self, name, rank, width):
        return torch.randn(rank, width, generator=self.generator("lora", name)) / rank

    def positions(self, items, share):
        """Index and pass of the item at positions 0, 1, ..: `share` None: all items take turns; else labelled images, whose
        class is drawn for each position."""
        classes = {None: list(range(len(items)))}
        if share is not None:
            classes = {good: [i for i, item in enumerate(items) if item.desirable == good] for good in (True, False)}
        turns = dict.fromkeys(classes, 0)
        for position in itertools.count():
            chosen = None if share is None else self.slot(position, share)
            members = classes[chosen]
            turn, place = divmod(turns[chosen], len(members))
            turns[chosen] += 1
            if chosen is None:
                order = self.order(turn, len(members))
            else:
                order = self.class_order("desirable" if chosen else "undesirable", turn, len(members))
            yield members[order[place]], turn

    def validation(self, j, item, shape, draws, train_timesteps):
        """Noise and timestep of validation draw `j`: the same for every run, whatever its seed."""
        noise = torch.randn(shape, generator=self.generator("val_noise", j, item, seed=0))
        return noise, math.floor((j + 0.5) * train_timesteps / draws)
