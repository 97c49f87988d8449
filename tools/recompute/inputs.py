"""Inputs of a step: items by position, the views of their pictures, latents, noise, timestep and prompt."""

from dataclasses import dataclass, replace

import torch

from .data import LISTS, Item
from .pictures import decode, transform


@dataclass
class Drawn:
    """An item with all its draws. `latents`, `noise` [k, C, h, w]; `time_ids` [k, 6]; `embeds` ([L, D],) or ([L, D],
    [P])."""

    item: Item
    latents: torch.Tensor
    time_ids: torch.Tensor
    noise: torch.Tensor
    t: int
    embeds: tuple
    d: int = 0  # of the inversion's noise
    block: int = 0  # items of one block share a timestep

    @property
    def pooled(self):
        """[P] the pooled embedding; for models without one that of the last token."""
        return self.embeds[1] if len(self.embeds) > 1 else self.embeds[0][-1]


class Inputs:
    """Items of a run by position, by the named streams."""

    def __init__(self, config, networks, draws, train):
        self.config, self.networks, self.draws, self.train = config, networks, draws, train
        self.resolution = networks.resolution(config)
        self.name = config["method"]["name"]
        self.encoded, self.prompts, self.orders = {}, {}, {}
        self.classes = {"desirable": [x for x in train if x.desirable], "undesirable": [x for x in train if not x.desirable]}
        self.taken, self.slots = dict.fromkeys(self.classes, 0), []

    def rounded(self, values):
        """Values rounded to the dtype of the cache."""
        return values.half().float() if self.config["data"]["cache_dtype"] == "float16" else values

    def latents(self, image, flip, crop, z):
        """[C, h, w] scaled latents of one view and its time_ids [6]; None for a file that cannot be read."""
        view, data = (image, flip, crop), self.config["data"]
        if view not in self.encoded:
            try:
                pixels, time_ids = transform(decode(image), self.resolution, flip, crop, data["crops"])
            except (OSError, SyntaxError):
                self.encoded[view] = None
                return None
            moments = self.networks.moments(pixels)
            if self.config["model"].get("time_ids") == "constant":
                time_ids = torch.tensor([self.resolution, self.resolution, 0, 0] + [self.resolution] * 2).float()
            self.encoded[view] = [*map(self.rounded, moments), time_ids]
        if self.encoded[view] is None:
            return None
        mean, std, time_ids = self.encoded[view]
        raw = mean if z is None else mean + std * z(mean.shape)
        return raw * self.networks.vae.config.scaling_factor, time_ids

    def prompt_embeds(self, prompt):
        """([L, D],), for SDXL ([L, D], [P])."""
        if prompt not in self.prompts:
            self.prompts[prompt] = tuple(map(self.rounded, self.networks.prompt_embeds(prompt)))
        return self.prompts[prompt]

    def ordered(self, items, *ids):
        """The items of a pass in its order."""
        if ids not in self.orders:
            self.orders[ids] = self.draws.order(len(items), *ids)
        return [items[i] for i in self.orders[ids]]

    def placed(self, position):
        """(item, epoch) of a position of the endless order. kto: a class is drawn, then its next image; positions in
        turn."""
        if self.name != "kto":
            epoch, place = divmod(position, len(self.train))
            return self.ordered(self.train, epoch)[place], epoch
        while len(self.slots) <= position:
            liked = self.draws.slot(len(self.slots), self.config["method"]["desirable_share"])
            name = "desirable" if liked else "undesirable"
            self.slots.append((name, *divmod(self.taken[name], len(self.classes[name]))))
            self.taken[name] += 1
        name, passed, place = self.slots[position]
        return self.ordered(self.classes[name], name, passed)[place], passed

    def drawn(self, position):
        """The item of a position with its draws; None if a picture cannot be read."""
        item, epoch = self.placed(position)
        data, method, d = self.config["data"], self.config["method"], self.draws.index(epoch)
        if self.name == "sft":  # the winner alone: a pair of it and itself
            item = replace(item, images=item.images[:1], better=((0, 0),))
        sides = []
        for k, image in enumerate(item.images):
            flip = self.draws.flip(d, k, item.id, data["flip"])
            crop = self.draws.crop(d, k, item.id, data["crops"]) if data["crop"] == "random" else None
            z = lambda shape, k=k: self.draws.posterior(d, k, item.id, shape)
            sides.append(self.latents(image, flip, crop, z if data["posterior"] == "sample" else None))
        if any(side is None for side in sides):
            return None
        latents, time_ids = map(torch.stack, zip(*sides))
        dropped = self.draws.dropout(d, item.id, method["prompt_dropout"])
        embeds = self.prompt_embeds("" if dropped else item.prompt)
        block, shape = 0, latents.shape[1:]
        drawing = d, item.id
        if self.name == "relative_po":
            block = position // method["block"]
            first, passed = self.placed(block * method["block"])
            drawing = self.draws.index(passed), first.id
        t = self.draws.timestep(*drawing, self.networks.timesteps)
        if self.name in LISTS and not method.get("shared_noise"):
            noise = torch.stack([self.draws.noise(shape, d, k, item.id) for k in range(len(latents))])
        else:
            noise = self.draws.noise(shape, d, item.id).expand_as(latents)
        return Drawn(item, latents, time_ids, noise, t, embeds, d, block)

    def validated(self, item, draws):
        """The validation draws of an item: the same for every run; None if a picture cannot be read."""
        sides = [self.latents(image, False, None, None) for image in item.images]
        if any(side is None for side in sides):
            return None
        latents, time_ids = map(torch.stack, zip(*sides))
        found = []
        for j in range(draws):
            noise, t = self.draws.validation(j, item.id, latents.shape[1:], draws, self.networks.timesteps)
            embeds = self.prompt_embeds(item.prompt)
            found.append(Drawn(item, latents, time_ids, noise.expand_as(latents), t, embeds, block=j))
        return found
