"""Shared by the demo scripts: paths, the drawings as tensors, augmentation.

Pictures are float tensors [batch, 3, 64, 64] with values in [-1, 1]; white is 1.
"""

import json
import math
import time
from pathlib import Path

import numpy
import torch
from PIL import Image
from torch.nn import functional

ROOT = Path(__file__).resolve().parents[2]
EMOJI = ROOT / "assets/emoji"
STYLES = ["flat", "shaded"]
SIZE = 64


def read_rows(path):
    """The objects of a JSON-lines file."""
    return [json.loads(line) for line in Path(path).read_text(encoding="utf-8").splitlines()]


def write_rows(path, rows):
    """Write JSON lines."""
    lines = [json.dumps(row, ensure_ascii=False) + "\n" for row in rows]
    path.write_text("".join(lines), encoding="utf-8")


def names():
    """The rows of names.jsonl; a name's row number is its content class."""
    return read_rows(EMOJI / "names.jsonl")


def to_tensor(image):
    """A PIL picture as a tensor [3, H, W] in [-1, 1]."""
    array = torch.from_numpy(numpy.asarray(image.convert("RGB")).copy())
    return array.permute(2, 0, 1).float() / 127.5 - 1


def to_image(tensor):
    """A tensor [3, H, W] in [-1, 1] as a PIL picture."""
    array = ((tensor.clamp(-1, 1) + 1) * 127.5).round().to(torch.uint8)
    return Image.fromarray(array.permute(1, 2, 0).numpy())


def drawings():
    """All drawings, [2, names, 3, 64, 64]; first index as in STYLES, second as in names.jsonl."""
    return torch.stack([
        torch.stack([to_tensor(Image.open(EMOJI / "drawings" / style / f"{row['slug']}.png"))
                     for row in names()])
        for style in STYLES])


def augment(images, generator, flip=0.5, shift=0.08, scale=0.12, angle=0.0):
    """Flip, move, scale and turn every picture of a batch at random, filling up with white.

    `shift` is a fraction of the picture's width, `scale` the largest change of size (0.12 means
    from 0.88 to 1.12 times), `angle` the largest turn in radians.
    """
    count = len(images)

    def spread(width):
        return (torch.rand(count, generator=generator) * 2 - 1) * width

    mirror = 1 - 2 * (torch.rand(count, generator=generator) < flip).float()
    zoom, turn = 1 / (1 + spread(scale)), spread(angle)
    move = torch.stack([spread(2 * shift), spread(2 * shift)], 1)
    matrix = torch.stack([
        torch.stack([zoom * turn.cos() * mirror, -zoom * turn.sin(), move[:, 0]], 1),
        torch.stack([zoom * turn.sin() * mirror, zoom * turn.cos(), move[:, 1]], 1)], 1)
    grid = functional.affine_grid(matrix, list(images.shape), align_corners=False)
    moved = functional.grid_sample(images - 1, grid, mode="bicubic", align_corners=False) + 1
    return moved.clamp(-1, 1)


def contact_sheet(images, columns):
    """One PIL picture of all `images` ([N, 3, 64, 64]) in rows of `columns`."""
    rows = math.ceil(len(images) / columns)
    sheet = Image.new("RGB", (columns * (SIZE + 2), rows * (SIZE + 2)), (210, 210, 210))
    for index, image in enumerate(images):
        place = (index % columns * (SIZE + 2) + 1, index // columns * (SIZE + 2) + 1)
        sheet.paste(to_image(image), place)
    return sheet


def progress(steps, minutes=None):
    """Yield (step, share of the training done): `steps` of them, or as many as fit in `minutes`."""
    start, step = time.time(), 0
    while True:
        done = step / steps if minutes is None else (time.time() - start) / (60 * minutes)
        if done >= 1:
            return
        yield step, done
        step += 1
