"""The named random streams of a run. Every draw is `torch.Generator("cpu").manual_seed(key(seed, stream, *ids))`."""

import hashlib
import math

import torch


def key(seed, stream, *ids):
    """The 63-bit seed of one draw: a hash of the run's seed, the stream's name and the ids."""
    text = ":".join(["diffpref", str(seed), stream, *map(str, ids)])
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "little") & (2**63 - 1)


class Draws:
    """Draws of one run: `d` is the draw index of an item (its epoch, or that mod draws_per_pair), `k` its picture's
    place."""

    def __init__(self, seed, draws_per_pair, law=None):
        self.seed, self.draws_per_pair, self.law = seed, draws_per_pair, law or {"law": "uniform"}

    def generator(self, stream, *ids, seed=None):
        return torch.Generator("cpu").manual_seed(key(self.seed if seed is None else seed, stream, *ids))

    def order(self, n, *ids):
        """The order of an epoch; of kto: of a class ("desirable", "undesirable") and a pass of it."""
        return torch.randperm(n, generator=self.generator("order", *ids)).tolist()

    def slot(self, position, share):
        """kto: whether a position takes a desirable image."""
        return bool(torch.rand(1, generator=self.generator("slot", position)) < share)

    def index(self, epoch):
        return epoch % self.draws_per_pair if self.draws_per_pair else epoch

    def timestep(self, d, item, train_timesteps):
        generator, law = self.generator("timestep", d, item), self.law
        lowest, highest = law.get("min", 0), law.get("max", train_timesteps - 1)
        width = highest - lowest + 1
        if law["law"] == "uniform" and width == train_timesteps:
            return torch.randint(0, train_timesteps, (1,), generator=generator).item()
        u = torch.rand(1, dtype=torch.float64, generator=generator).item()
        if law["law"] == "uniform":
            return lowest + math.floor(u * width)
        if law["law"] == "list":
            return law["values"][math.floor(u * len(law["values"]))]
        bins = law["n_bins"]
        weights = [law["gamma"] ** b for b in range(bins)]
        borders = [sum(weights[:b]) / sum(weights) for b in range(bins)] + [1.0]
        b = max(i for i in range(bins) if borders[i] <= u)
        r = (u - borders[b]) / (borders[b + 1] - borders[b])
        return highest - math.floor((b + r) * width / bins)

    def noise(self, shape, *ids):
        """Noise of an item (d, id), or of one picture of it (d, k, id)."""
        return torch.randn(shape, generator=self.generator("noise", *ids))

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

    def validation(self, j, item, shape, draws, train_timesteps):
        """Noise and timestep of validation draw `j`: the same for every run, whatever its seed."""
        noise = torch.randn(shape, generator=self.generator("val_noise", j, item, seed=0))
        return noise, math.floor((j + 0.5) * train_timesteps / draws)
