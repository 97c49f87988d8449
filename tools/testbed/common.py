"""Shared by the scripts of the test bed: paths, constants, rows of JSON lines, pictures and sheets.

Pictures are float tensors [N, 3, 64, 64] with values in [0, 1] unless a function says otherwise.
"""

import json
import math
import time
from pathlib import Path

import numpy
import torch
from PIL import Image

ROOT = Path(__file__).resolve().parents[2]
TESTBED = ROOT / "assets/testbed"
MODEL = TESTBED / "model"
SIZE = 64
# Short name of a style, in the order of every tensor of drawings: name of its icon package.
STYLES = {"noto": "noto", "noto-v1": "noto-v1", "fluent": "fluent-emoji", "fluent-flat": "fluent-emoji-flat",
          "twemoji": "twemoji", "emojione": "emojione"}
SHEET_COLUMNS = 10
# Rec. 601 luma of R, G, B.
LUMA = torch.tensor([0.299, 0.587, 0.114])


def read_rows(path):
    """Objects of a JSON-lines file."""
    return [json.loads(line) for line in Path(path).read_text(encoding="utf-8").splitlines()]


def write_rows(path, rows):
    """Write JSON lines."""
    lines = [json.dumps(row, ensure_ascii=False) + "\n" for row in rows]
    Path(path).write_text("".join(lines), encoding="utf-8")


def names():
    """Rows of names.jsonl; the row number of a name is its content class."""
    return read_rows(TESTBED / "names.jsonl")


def sprites():
    """All drawings as RGBA pictures, [style][name]."""
    count = len(names())
    result = []
    for style in STYLES:
        sheet = Image.open(TESTBED / "drawings" / f"{style}.webp").convert("RGBA")
        cells = [(index % SHEET_COLUMNS * SIZE, index // SHEET_COLUMNS * SIZE) for index in range(count)]
        result.append([sheet.crop((x, y, x + SIZE, y + SIZE)) for x, y in cells])
    return result


def to_tensor(image):
    """PIL picture as a tensor [3, H, W]."""
    array = torch.from_numpy(numpy.asarray(image.convert("RGB")).copy())
    return array.permute(2, 0, 1).float() / 255


def to_image(tensor):
    """Tensor [3, H, W] as a PIL picture."""
    array = (tensor.clamp(0, 1) * 255).round().to(torch.uint8)
    return Image.fromarray(array.permute(1, 2, 0).contiguous().numpy())


def contact_sheet(images, columns):
    """One PIL picture of all `images` in rows of `columns`."""
    rows = math.ceil(len(images) / columns)
    sheet = Image.new("RGB", (columns * (SIZE + 2), rows * (SIZE + 2)), (255, 255, 255))
    for index, image in enumerate(images):
        place = (index % columns * (SIZE + 2) + 1, index // columns * (SIZE + 2) + 1)
        sheet.paste(to_image(image), place)
    return sheet


class Clock:
    """Share of a training that is done, in minutes of work over all its runs."""

    def __init__(self, minutes, spent=0.0):
        self.minutes, self.spent, self.start = minutes, spent, time.time()

    def worked(self):
        """Minutes worked so far, earlier runs included."""
        return self.spent + (time.time() - self.start) / 60

    def done(self):
        """Share of the training that is done, 0 to 1."""
        return min(1.0, self.worked() / self.minutes)
