#!/usr/bin/env python3
"""Pictures per second of a scorer in Python: python_scorers.py NAME FOLDER PICTURES. From the file to the number; loading
is not counted. Prints JSON."""

import json
import os
import sys
import time
from pathlib import Path

import numpy
import PIL
import torch
import transformers
from PIL import Image
from safetensors.torch import load_file

ROOT = Path(__file__).resolve().parent.parent
MEAN, STD = (0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711)
BATCH = 8


def pixels(path):
    """The centre of the picture as input of CLIP."""
    image = Image.open(path).convert("RGB").resize((224, 224), Image.Resampling.BICUBIC)
    unit = torch.from_numpy(numpy.asarray(image).copy()).permute(2, 0, 1).float() / 255
    return (unit - torch.tensor(MEAN).view(3, 1, 1)) / torch.tensor(STD).view(3, 1, 1)


def nima(folder):
    """MobileNet by its equations in torch."""
    w = load_file(ROOT / "assets/scorers/nima/model.safetensors")

    def block(x, convolution, norm, stride=1, groups=1):
        kernel = w[f"{convolution}.weight"]
        if kernel.shape[-1] == 3:
            x = torch.nn.functional.pad(x, (0, 1, 0, 1) if stride == 2 else (1, 1, 1, 1))
        x = torch.conv2d(x, kernel, stride=stride, groups=groups)
        names = ("running_mean", "running_var", "weight", "bias")
        x = torch.nn.functional.batch_norm(x, *(w[f"{norm}.{name}"] for name in names), eps=1e-3)
        return x.clamp(0, 6)

    def score(paths, _):
        small = [Image.open(path).convert("RGB").resize((224, 224), Image.Resampling.NEAREST) for path in paths]
        x = torch.from_numpy(numpy.stack([numpy.asarray(image) for image in small])).permute(0, 3, 1, 2).float() / 127.5 - 1
        x = block(x, "conv1", "bn1", 2)
        for n, stride in enumerate([1, 2, 1, 2, 1, 2, 1, 1, 1, 1, 1, 2, 1], 1):
            x = block(x, f"dw{n}", f"dw{n}_bn", stride, x.shape[1])
            x = block(x, f"pw{n}", f"pw{n}_bn")
        votes = torch.softmax(x.mean((2, 3)) @ w["head.weight"].T + w["head.bias"], -1)
        return votes @ torch.arange(1.0, 11.0)

    return score


def clip(folder):
    config = json.loads((folder / "config.json").read_text())
    config = transformers.CLIPConfig(text_config=config["text_config"], vision_config=config["vision_config"], projection_dim=config["projection_dim"])
    model = transformers.CLIPModel(config).eval()
    model.load_state_dict({name: value.float() for name, value in load_file(folder / "model.safetensors").items()}, strict=False)

    def score(paths, prompts):
        ids = torch.full((len(paths), 77), 49407)
        ids[:, 0] = 49406
        ids[:, 1:8] = torch.arange(7) + 300
        return model(input_ids=ids, pixel_values=torch.stack([pixels(path) for path in paths])).logits_per_image.diag()

    return score


def imagereward(folder):
    from transformers import BlipTextConfig, BlipVisionConfig, BlipVisionModel
    from transformers.models.blip.modeling_blip_text import BlipTextModel

    large = {"hidden_size": 1024, "num_hidden_layers": 24, "num_attention_heads": 16, "intermediate_size": 4096}
    vision = BlipVisionModel(BlipVisionConfig(**large, hidden_act="gelu", image_size=224, patch_size=16)).eval()
    sizes = {"vocab_size": 30524, "hidden_size": 768, "num_hidden_layers": 12, "num_attention_heads": 12}
    text = BlipTextConfig(**sizes, hidden_act="gelu", encoder_hidden_size=1024, is_decoder=True)
    text = BlipTextModel(text, add_pooling_layer=False).eval()
    widths = (768, 1024, 128, 64, 16, 1)
    head = torch.nn.Sequential(*(torch.nn.Linear(a, b) for a, b in zip(widths, widths[1:])))

    def score(paths, prompts):
        picture = vision(torch.stack([pixels(path) for path in paths])).last_hidden_state
        ids = torch.full((len(paths), 35), 500)
        mask = torch.ones_like(ids)
        mask[:, 12:] = 0  # about the length of the prompts
        seen = torch.ones(picture.shape[:2], dtype=torch.long)
        read = text(input_ids=ids, attention_mask=mask, encoder_hidden_states=picture, encoder_attention_mask=seen)
        return head(read.last_hidden_state[:, 0])[:, 0]

    return score


name, work, count = sys.argv[1], Path(sys.argv[2]), int(sys.argv[3])
torch.set_num_threads(int(os.environ["OMP_NUM_THREADS"]))
rows = [json.loads(line) for line in (work / "pictures/images.jsonl").read_text().splitlines()][:count]
paths, prompts = [work / "pictures" / row["picture"] for row in rows], [row["prompt"] for row in rows]
with torch.no_grad():
    score = {"nima": nima, "imagereward": imagereward}.get(name, clip)(work / name)
    began = time.perf_counter()
    for start in range(0, count, BATCH):
        assert score(paths[start : start + BATCH], prompts[start : start + BATCH]).isfinite().all()
    seconds = time.perf_counter() - began
versions = {"torch": torch.__version__, "transformers": transformers.__version__, "Pillow": PIL.__version__}
print(json.dumps({"pictures": count, "seconds": seconds, "threads": torch.get_num_threads(), "versions": versions}))
