#!/usr/bin/env python3
"""HPSv3 as a scorer: mu and sigma of its reward model. Written against the package hpsv3 1.0; NOT RUN for this repository,
since it needs a GPU with 24 GB and 16 GB of weights.

    pip install hpsv3
    diffpref score pictures --scorer "command=python3 docs/examples/hpsv3.py" --out scored
"""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent))
from scorer_protocol import serve

DESCRIPTION = {
    "name": "hpsv3",
    "version": "MizzenAI/HPSv3",
    "measures": [
        {"name": "mu", "better": "higher", "scope": "prompt"},
        {"name": "log_sigma", "better": "neither", "scope": "prompt"},
    ],
    # The package reads files and resizes each to 256 * 28 * 28 pixels.
    "pictures": "file",
    "batch": 8,
}
MODEL = []


def model():
    """Loads the weights with the first request."""
    if not MODEL:
        from hpsv3 import HPSv3RewardInferencer

        MODEL.append(HPSv3RewardInferencer(device="cuda"))
    return MODEL[0]


def score(items, timestep):
    # One picture per call: in a batch of others the last bits of its numbers may differ.
    def one(item):
        reward = model().reward([item["prompt"]], [item["picture"]["file"]])[0]
        return [float(reward[0]), float(reward[1])]

    return [one(item) for item in items]


if __name__ == "__main__":
    serve(DESCRIPTION, score)
