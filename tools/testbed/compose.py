"""Composes a drawing with a plain ground, from factors that do not depend on the prompt.

| factor | distribution |
|---|---|
| luma of the ground, 0.299 R + 0.587 G + 0.114 B | uniform in [0.06, 0.96] |
| hue of the ground | uniform |
| chroma of the ground | uniform between 0 and the smaller of MOST_CHROMA and the largest at this luma and hue |
| size: longest side of the drawing as a share of the picture's width | uniform in [0.70, 0.88] |
| place: shift of the drawing's centre from that of the picture, x and y | uniform in +-3 % of the width |
"""

import colorsys
from typing import NamedTuple

import numpy
import torch
from common import LUMA, SIZE
from PIL import Image

LUMA_RANGE = (0.06, 0.96)
SIZE_RANGE = (0.70, 0.88)
SHIFT = 0.03
MOST_CHROMA = 0.40


class Factors(NamedTuple):
    """Everything in a picture that is not the drawing. `ground` is R, G, B; `x` and `y` are shares of the width."""

    ground: tuple
    size: float
    x: float
    y: float


def ground_colour(luma, hue, chroma):
    """R, G, B of exactly this `luma`, `chroma` (share of the largest allowed, 0 to 1) away from grey."""
    pure = torch.tensor(colorsys.hsv_to_rgb(hue, 1.0, 1.0))
    direction = pure - (pure * LUMA).sum()
    room = torch.where(direction > 0, (1 - luma) / direction, -luma / direction).min().item()
    return tuple((luma + chroma * min(room, MOST_CHROMA) * direction).clamp(0, 1).tolist())


def draw_factors(generator, luma=None):
    """Random factors from a torch generator, at a given luma of the ground if there is one."""
    share = torch.rand(6, generator=generator).tolist()
    low, high = LUMA_RANGE
    luma = low + (high - low) * share[0] if luma is None else luma
    low, high = SIZE_RANGE
    return Factors(ground_colour(luma, share[1], share[2]), low + (high - low) * share[3],
                   SHIFT * (2 * share[4] - 1), SHIFT * (2 * share[5] - 1))


def compose(drawing, factors):
    """Picture [3, 64, 64] in [0, 1]: `drawing` (RGBA, 64 x 64, PIL) over the ground, antialiased bicubic."""
    frame = Image.new("RGBA", (2 * SIZE, 2 * SIZE))
    frame.paste(drawing, (SIZE // 2, SIZE // 2))
    width = SIZE / factors.size
    left, top = SIZE - width / 2 - factors.x * width, SIZE - width / 2 - factors.y * width
    moved = frame.resize((SIZE, SIZE), Image.Resampling.BICUBIC, box=(left, top, left + width, top + width))
    array = torch.from_numpy(numpy.asarray(moved).copy()).permute(2, 0, 1).float() / 255
    ground = torch.tensor(factors.ground)[:, None, None]
    return array[:3] * array[3:] + ground * (1 - array[3:])


def compose_many(drawings, generator):
    """Pictures [N, 3, 64, 64] of the drawings, each with random factors."""
    return torch.stack([compose(drawing, draw_factors(generator)) for drawing in drawings])
