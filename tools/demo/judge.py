"""The judge: a small network that classifies style and name of a picture."""

import json
from pathlib import Path

import torch
from common import ROOT, SIZE, STYLES
from safetensors.torch import load_file, save_file
from torch import nn
from torch.nn import functional

CHANNELS = [32, 64, 128, 128]
GROUPS = 8
FOLDER = ROOT / "assets/judge"


class Judge(nn.Module):
    """Four convolutions, pooling, two linear heads; input [B, 3, 64, 64] in [-1, 1]."""

    def __init__(self, channels, classes):
        super().__init__()
        widths = [3, *channels]
        self.convs = nn.ModuleList(
            nn.Conv2d(before, after, 3, stride=1 if index == 0 else 2, padding=1)
            for index, (before, after) in enumerate(zip(widths, channels)))
        self.norms = nn.ModuleList(nn.GroupNorm(GROUPS, width, eps=1e-5) for width in channels)
        self.style = nn.Linear(2 * channels[-1], len(STYLES))
        self.content = nn.Linear(2 * channels[-1], classes)

    def features(self, images):
        """The pooled features, [B, 2 x last width]: means, then maxima."""
        hidden = images
        for conv, norm in zip(self.convs, self.norms):
            hidden = functional.silu(norm(conv(hidden)))
        return torch.cat([hidden.mean((2, 3)), hidden.amax((2, 3))], 1)

    def forward(self, images):
        """Style logits [B, 2] and content logits [B, names]."""
        features = self.features(images)
        return self.style(features), self.content(features)


def save_judge(folder, judge, names, accuracies):
    """Write config.json and model.safetensors."""
    folder.mkdir(parents=True, exist_ok=True)
    config = {"resolution": SIZE, "channels": CHANNELS, "groups": GROUPS, "norm_eps": 1e-5,
              "styles": STYLES, "names": names, "accuracy": accuracies}
    (folder / "config.json").write_text(json.dumps(config, indent=2) + "\n", encoding="utf-8")
    tensors = {name: tensor.contiguous() for name, tensor in judge.state_dict().items()}
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})


def load_judge(folder=FOLDER):
    """The trained judge."""
    config = json.loads((Path(folder) / "config.json").read_text(encoding="utf-8"))
    judge = Judge(config["channels"], len(config["names"]))
    judge.load_state_dict(load_file(Path(folder) / "model.safetensors"))
    return judge.eval()
