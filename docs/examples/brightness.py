#!/usr/bin/env python3
"""A scorer without a model: mean brightness, and how much of a picture has the colour that the prompt names.

    diffpref score pictures --scorer "command=python3 docs/examples/brightness.py" --out scored
    python3 docs/examples/brightness.py --port 8000 &
    diffpref score pictures --scorer http=http://127.0.0.1:8000/ --out scored
"""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent))
from scorer_protocol import pixels, serve

COLOURS = ("red", "green", "blue")
DESCRIPTION = {
    "name": "brightness",
    "version": "1",
    "measures": [
        {"name": "brightness", "min": 0, "max": 1, "better": "higher", "scope": "picture"},
        {"name": "named_colour", "min": 0, "max": 1, "better": "higher", "scope": "prompt"},
    ],
    "batch": 8,
}


def numbers(prompt, picture):
    """[brightness, named_colour] of one picture."""
    rgb = pixels(picture)[2]
    channels = [sum(rgb[k::3]) for k in range(3)]
    total = sum(channels)
    named = [channels[k] for k, colour in enumerate(COLOURS) if colour in prompt.lower()]
    return [total / (255 * len(rgb)), sum(named) / total if total else 0.0]


def score(items, timestep):
    return [numbers(item["prompt"], item["picture"]) for item in items]


def compare(items):
    """1 where the first picture is brighter, 0.5 where both are equally bright."""

    def one(item):
        first, second = (numbers(item["prompt"], item[side])[0] for side in ("first", "second"))
        return 0.5 + 0.5 * ((first > second) - (first < second))

    return [one(item) for item in items]


if __name__ == "__main__":
    serve(DESCRIPTION, score, compare)
