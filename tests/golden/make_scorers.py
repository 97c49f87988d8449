#!/usr/bin/env python3
"""Makes tests/golden/scorers: pictures, and the published numbers of `nima` and `brisque` for them.

nima: scores of 18 emoji cells and five formula pictures, by Keras 3.15.1 MobileNet with the original weights; read from
a reference file, and the cells are cut from its sheets.
brisque: brisque 0.2.0 with opencv-python-headless 5.0.0.93, scikit-image 0.26.0, scipy 1.17.1, libsvm-official 3.37.0.

Usage: make_scorers.py DATA_FOLDER (with scorers/nima/reference.json and emoji/*-64.png)
"""

import json
import sys
from pathlib import Path

import numpy
from brisque import BRISQUE
from PIL import Image

OUT = Path(__file__).resolve().parent / "scorers"
SIDE = 64
COLUMNS = 32


def cell(data, sheet, index):
    """The picture of one object in a sheet."""
    x, y = index % COLUMNS * SIDE, index // COLUMNS * SIDE
    return Image.open(data / "emoji" / sheet).convert("RGB").crop((x, y, x + SIDE, y + SIDE))


def nima(data):
    """Rows of nima.jsonl; writes the cells."""
    reference = json.loads((data / "scorers/nima/reference.json").read_text(encoding="utf-8"))
    for row in reference["cells"]:
        file = f"{row['sheet'].removesuffix('-64.png')}-{row['name'].replace(' ', '-')}.png"
        cell(data, row["sheet"], row["i"]).save(OUT / file, optimize=True)
        yield {"file": file, "mean": row["mean"], "std": row["std"]}
    for row in reference["synthetic"]:
        yield {"picture": row["picture"].split()[0].strip(":"), "mean": row["mean"], "std": row["std"]}


def textured(width, height):
    """A ramp with integer noise, computable without a generator."""
    y, x = numpy.indices((height, width))
    noise = ((x * 2654435761 + y * 40503 + x * y * 97) >> 7) % 61
    channels = [(x * 3 + noise) % 256, (y * 2 + noise * 2) % 256, (x + y + noise) % 256]
    return numpy.stack(channels, -1).astype(numpy.uint8)


def scale_flat(model):
    """numpy 2.4 makes no scalars of arrays of one element, which the package relies on."""
    scale = model.scale_features
    model.scale_features = lambda features: scale([numpy.asarray(feature).item() for feature in features])
    return model


def brisque():
    """Rows of brisque.jsonl: of cells over a texture, of pictures with odd and unequal sides.

    Without a texture plain areas decide, where the package's numbers are those of rounding.
    """
    model = scale_flat(BRISQUE(url=False))
    texture = textured(SIDE, SIDE).astype(int)
    for file in sorted(OUT.glob("*.png")):
        mixed = (numpy.asarray(Image.open(file)).astype(int) * 3 + texture) // 4
        yield {"file": file.name, "score": model.score(mixed.astype(numpy.uint8))}
    for width, height in [(97, 131), (128, 64), (63, 45)]:
        yield {"textured": [width, height], "score": model.score(textured(width, height))}


def main():
    """Writes the folder."""
    OUT.mkdir(exist_ok=True)
    for name, rows in [("nima.jsonl", nima(Path(sys.argv[1]))), ("brisque.jsonl", brisque())]:
        text = "".join(json.dumps(row) + "\n" for row in rows)
        (OUT / name).write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
