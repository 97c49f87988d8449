"""Judges pictures of the test bed by formula and by the nearest drawing. Nothing in here is learned.

A picture is [3, 64, 64], RGB in [0, 1], as decoded from a file (no linearisation).

1. Ground. g = (R, G, B), each the lower median of its channel over the ring of the outermost 3 pixels: element 365,
   counted from 0, of the 732 sorted values. Border luma = 0.299 R + 0.587 G + 0.114 B. Darkness = 1 - border luma.
2. Placement. A drawing (RGBA, 64 x 64, alpha a, colour d, both in [0, 1]) is premultiplied to 4 channels: a d and a.
   It is resampled to n x n pixels, bilinear with antialiasing: `torch.nn.functional.interpolate(mode="bilinear",
   antialias=True, align_corners=False)`, ATen's `_upsample_bilinear2d_aa`. The result is put on an empty 64 x 64
   canvas with its left upper corner at ((64 - n) / 2 + x, (64 - n) / 2 + y).
3. Search over 27 placements per drawing: n = 44, 50, 56 (0.6875, 0.78125, 0.875 of the width), x and y = -2, 0, 2.
   Picture and placements are reduced to 32 x 32 by means of 2 x 2 pixels (a shift of 2 becomes one of 1). The distance
   of picture p to a placement (q = a d, a) is |p - (q + (1 - a) g)|^2, summed over 32 x 32 pixels and 3 channels. The
   nearest placement of all drawings gives name and style. Of equal distances the first counts, in the order of style,
   name, size, y, x.
4. Off-manifold distance: the least sqrt(mean((p - (q + (1 - a) g))^2)) at 64 x 64, over pixels and channels, over the
   175 fine placements of the drawing found in 3: n = 44, 46, .., 56, x and y = -2, -1, 0, 1, 2.

With r = p - g the distance of step 3 is
|r|^2 - 2 r.q + 2 sum_c g_c (r_c.a) + |q|^2 - 2 sum_c g_c (q_c.a) + |g|^2 |a|^2, which needs matrix products only.
"""

from typing import NamedTuple

import numpy
import torch
from common import LUMA, SIZE, sprites
from torch.nn import functional

RING = 3
SIZES, SHIFTS = (44, 50, 56), (-2, 0, 2)
FINE_SIZES, FINE_SHIFTS = (44, 46, 48, 50, 52, 54, 56), (-2, -1, 0, 1, 2)
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


def centred(drawings, sizes):
    """Drawings [N, 4, 64, 64] at each of `sizes`, in the middle of their canvas, [N, sizes, 4, 64, 64]."""
    result = torch.zeros(len(drawings), len(sizes), 4, SIZE, SIZE)
    for place, size in enumerate(sizes):
        edge = (SIZE - size) // 2
        result[:, place, :, edge:edge + size, edge:edge + size] = functional.interpolate(
            drawings, size=(size, size), mode="bilinear", antialias=True)
    return result


def shifted(canvases, shifts):
    """Canvases [.., 4, H, W] moved by every x and y of `shifts`, [.., y, x, 4, H, W]; their margins are empty."""
    rows = [torch.stack([canvases.roll((y, x), (-2, -1)) for x in shifts], -4) for y in shifts]
    return torch.stack(rows, -5)


class Judge:
    """Finds the nearest drawing of pictures."""

    def __init__(self):
        drawings = [[premultiplied(drawing) for drawing in style] for style in sprites()]
        self.names = len(drawings[0])
        drawings = torch.stack([drawing for style in drawings for drawing in style])
        self.fine = centred(drawings, FINE_SIZES)
        ratio = SIZE // SMALL
        small = functional.avg_pool2d(centred(drawings, SIZES).flatten(0, 1), ratio)
        small = shifted(small, [shift // ratio for shift in SHIFTS]).flatten(0, -4)
        self.per_name = len(small) // len(drawings)
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

    def off_manifold(self, picture, ground, drawing):
        """Off-manifold distance of one picture [3, 64, 64] to one drawing (step 4)."""
        placed = shifted(self.fine[drawing], FINE_SHIFTS).flatten(0, 2)
        composites = placed[:, :3] + (1 - placed[:, 3:]) * ground[:, None, None]
        return (picture - composites).square().mean((1, 2, 3)).min().sqrt()

    @torch.no_grad()
    def __call__(self, pictures):
        """Verdict on pictures [N, 3, 64, 64]."""
        parts = []
        for part in pictures.split(CHUNK):
            ground = ground_of(part)
            drawing = self.distances(part, ground).argmin(1) // self.per_name
            error = torch.stack([self.off_manifold(*one) for one in zip(part, ground, drawing)])
            parts.append(Verdict(ground @ LUMA, drawing % self.names, drawing // self.names, error))
        return Verdict(*(torch.cat(values) for values in zip(*parts)))
