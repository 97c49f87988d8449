#!/usr/bin/env python3
"""A scorer without a model: how dark the four corners of a picture are.

    diffpref score pictures --scorer "command=python3 docs/examples/corners.py" --out scored
"""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent))
from scorer_protocol import pixels, serve

DESCRIPTION = {
    "name": "corners",
    "version": "1",
    "measures": [{"name": "darkness", "min": 0, "max": 1, "better": "higher", "scope": "picture"}],
    "batch": 32,
}
# Side of a corner as a share of the picture's.
CORNER = 8


def darkness(picture):
    """1 - mean of R, G and B over four corners."""
    width, height, rgb = pixels(picture)
    columns = [*range(width // CORNER), *range(width - width // CORNER, width)]
    rows = [*range(height // CORNER), *range(height - height // CORNER, height)]
    values = [value for y in rows for x in columns for value in rgb[3 * (y * width + x) : 3 * (y * width + x) + 3]]
    return 1 - sum(values) / (255 * len(values)) if values else 0.0


def score(items, timestep):
    return [[darkness(item["picture"])] for item in items]


if __name__ == "__main__":
    serve(DESCRIPTION, score)
