"""Rewards of a group of pictures by torch, in float64: golden/rewards.json for src/scorers/tests.rs.

    python tests/golden/make_rewards.py
"""

import json
from pathlib import Path

import torch

torch.manual_seed(5)
WEIGHTS = torch.tensor([1.0, -0.5, 2.0], dtype=torch.float64)


def rewards(scored):
    """scored: [scorers, pictures]"""
    total = (WEIGHTS[:, None] * scored).sum(0)
    # Of an even number torch.median takes the lower of the middle two, quantile their mean.
    centred = scored - scored.quantile(0.5, dim=1, keepdim=True)
    return {
        "none": total,
        "standardise": (total - total.mean()) / total.std(unbiased=False),
        "log_sigmoid": (WEIGHTS[:, None] * torch.nn.functional.logsigmoid(centred)).sum(0),
        "par": (WEIGHTS[:, None] * torch.sigmoid(centred)).sum(0),
    }


groups = []
for pictures in (2, 5, 6):
    scored = 3 * torch.randn(3, pictures, dtype=torch.float64)
    expected = {name: values.tolist() for name, values in rewards(scored).items()}
    groups.append({"scored": scored.tolist(), "rewards": expected})
out = {"weights": WEIGHTS.tolist(), "groups": groups}
(Path(__file__).parent / "rewards.json").write_text(json.dumps(out, indent=1) + "\n")
