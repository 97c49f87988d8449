"""The named random streams of a run. Every draw is `torch.Generator("cpu").manual_seed(key(seed, stream, *ids))`."""

import hashlib
import math

import torch


def key(seed, stream, *ids):
    """The 63-bit seed of one draw: a hash of the run's seed, the stream's name and the ids."""
    text = ":".join(["diffpref", str(seed), stream, *map(str, ids)])
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "little") & (2**63 - 1)


class Draws:
    """Draws of one run: `d` is the draw index of an item (its epoch, or that mod draws_per_pair), `k` 0 winner, 1 loser."""

    def __init__(self, seed, draws_per_pair):
        self.seed, self.draws_per_pair = seed, draws_per_pair

    def generator(self, stream, *ids, seed=None):
        return torch.Generator("cpu").manual_seed(key(self.seed if seed is None else seed, stream, *ids))

    def order(self, epoch, n):
        return torch.randperm(n, generator=self.generator("order", epoch)).tolist()

    def index(self, epoch):
        return epoch % self.draws_per_pair if self.draws_per_pair else epoch

    def timestep(self, d, item, train_timesteps):
        return torch.randint(0, train_timesteps, (1,), generator=self.generator("timestep", d, item)).item()

    def noise(self, d, item, shape):
        return torch.randn(shape, generator=self.generator("noise", d, item))

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
