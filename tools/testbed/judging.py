"""Judges pictures of the test bed by formula and by the nearest drawing. Nothing in here is learned.

A picture is [3, 64, 64], RGB in [0, 1], as decoded from a file (no linearisation).

1. Ground. g = (R, G, B), each the lower median of its channel over the ring of the outermost 3 pixels: element 365,
   counted from 0, of the 732 sorted values. Border luma = 0.299 R + 0.587 G + 0.114 B. Darkness = 1 - border luma.
2. Placements. A drawing (RGBA, 64 x 64, alpha a, colour d, both in [0, 1]) is premultiplied to 4 channels: a d and a.
   Each of the sizes n = 44, 50, 56 pixels (0.6875, 0.78125, 0.875 of the width) is made by bilinear resampling with
   antialiasing: `torch.nn.functional.interpolate(mode="bilinear", antialias=True, align_corners=False)`, ATen's
   `_upsample_bilinear2d_aa`. The result is put on an empty 64 x 64 canvas with its left upper corner at
   ((64 - n) / 2 + x, (64 - n) / 2 + y), x and y in -2, 0, 2. This gives 27 placements per drawing.
3. Search. Picture and placements are reduced to 32 x 32 by means of 2 x 2 pixels. The distance of picture p to a
   placement (q = a d, a) is |p - (q + (1 - a) g)|^2, summed over 32 x 32 pixels and 3 channels. The nearest placement
   of all drawings gives name and style. Of equal distances the first counts, in the order style, name, size, y, x.
4. Off-manifold distance. sqrt(mean((p - (q + (1 - a) g))^2)) at 64 x 64, over pixels and channels, for the placement
   found in 3.

With r = p - g the distance of step 3 is
|r|^2 - 2 r.q + 2 sum_c g_c (r_c.a) + |q|^2 - 2 sum_c g_c (q_c.a) + |g|^2 |a|^2, which needs matrix products only.
"""

from typing import NamedTuple

import numpy
import torch
from common import LUMA, SIZE, sprites
from torch.nn import functional

RING = 3
SIZES = (44, 50, 56)
SHIFTS = (-2, 0, 2)
SMALL = 32
CHUNK = 64


class Verdict(NamedTuple):
    """Tensors with one value per picture: border luma, class of the name, class of the style, off-manifold distance."""

    luma: torch.Tensor
    name: torch.Tensor
    style: torch.Tensor
    off_manifold: torch.Tensor


def ground_of(pictures):
    """Colour of the ground, [N, 3] (step 1)."""
    inside = torch.zeros(SIZE, SIZE, dtype=torch.bool)
    inside[RING:-RING, RING:-RING] = True
    return pictures[:, :, ~inside].median(2).values


def border_luma(pictures):
    """Luma of the ground, [N]."""
    return ground_of(pictures) @ LUMA


def premultiplied(drawing):
    """RGBA picture as a tensor [4, 64, 64]: alpha times colour, alpha."""
    array = torch.from_numpy(numpy.asarray(drawing).copy()).permute(2, 0, 1).float() / 255
    return torch.cat([array[:3] * array[3:], array[3:]])


def placements():
    """All drawings in all placements, [styles, names, sizes, y, x, 4, 64, 64] (step 2)."""
    drawings = torch.stack([torch.stack([premultiplied(one) for one in style]) for style in sprites()])
    styles, count = drawings.shape[:2]
    result = torch.zeros(styles, count, len(SIZES), len(SHIFTS), len(SHIFTS), 4, SIZE, SIZE)
    for s, size in enumerate(SIZES):
        small = functional.interpolate(drawings.flatten(0, 1), size=(size, size), mode="bilinear", antialias=True)
        small = small.view(styles, count, 4, size, size)
        for i, y in enumerate(SHIFTS):
            for j, x in enumerate(SHIFTS):
                top, left = (SIZE - size) // 2 + y, (SIZE - size) // 2 + x
                result[:, :, s, i, j, :, top:top + size, left:left + size] = small
    return result


class Judge:
    """Finds the nearest drawing of pictures."""

    def __init__(self):
        everything = placements()
        self.names = everything.shape[1]
        self.per_name = everything.shape[2:5].numel()
        self.full = everything.flatten(0, 4).half()
        small = functional.avg_pool2d(everything.flatten(0, 4), SIZE // SMALL)
        self.colour, self.alpha = small[:, :3].flatten(1), small[:, 3].flatten(1)
        self.colour_square = self.colour.square().sum(1)
        self.alpha_square = self.alpha.square().sum(1)
        self.mixed = torch.einsum("kcp,kp->ck", small[:, :3].flatten(2), self.alpha)

    def distances(self, pictures, ground):
        """Squared distances of pictures to all placements on their grounds, [N, placements] (step 3)."""
        rest = functional.avg_pool2d(pictures, SIZE // SMALL) - ground[:, :, None, None]
        weighted = torch.einsum("nc,nchw->nhw", ground, rest).flatten(1)
        rest = rest.flatten(1)
        return (rest.square().sum(1, keepdim=True) - 2 * rest @ self.colour.T + 2 * weighted @ self.alpha.T
                + self.colour_square - 2 * ground @ self.mixed
                + ground.square().sum(1, keepdim=True) * self.alpha_square)

    def composites(self, index, ground):
        """Placements of these indices over `ground`, [N, 3, 64, 64]."""
        placed = self.full[index].float()
        return placed[:, :3] + (1 - placed[:, 3:]) * ground[:, :, None, None]

    @torch.no_grad()
    def __call__(self, pictures):
        """Verdict on pictures [N, 3, 64, 64]."""
        parts = []
        for part in pictures.split(CHUNK):
            ground = ground_of(part)
            index = self.distances(part, ground).argmin(1)
            error = (part - self.composites(index, ground)).square().mean((1, 2, 3)).sqrt()
            drawing = index // self.per_name
            parts.append(Verdict(ground @ LUMA, drawing % self.names, drawing // self.names, error))
        return Verdict(*(torch.cat(values) for values in zip(*parts)))
