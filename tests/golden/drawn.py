"""Pictures, drawn weights and their files, which the makers of golden scorers share."""

import hashlib
import json
import math
from pathlib import Path

import numpy
import torch
from PIL import Image
from safetensors.torch import save_file

OUT = Path(__file__).resolve().parent / "scorers"
MEAN, STD = (0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711)
PROMPTS = ["a red apple", "A cat, sitting on the moon!", "a red apple", "the house of a very long prompt " * 8]


def textured(width, height):
    """A ramp with integer noise, computable without a generator."""
    y, x = numpy.indices((height, width))
    noise = ((x * 2654435761 + y * 40503 + x * y * 97) >> 7) % 61
    channels = [(x * 3 + noise) % 256, (y * 2 + noise * 2) % 256, (x + y + noise) % 256]
    return Image.fromarray(numpy.stack(channels, -1).astype(numpy.uint8))


def pictures():
    """Name or size -> picture: three cells and three textures."""
    cells = ["noto-cat.png", "twemoji-house.png", "fluent-emoji-rose.png"]
    found = [({"file": cell}, Image.open(OUT / cell).convert("RGB")) for cell in cells]
    return found + [({"textured": list(size)}, textured(*size)) for size in [(97, 131), (63, 45), (35, 29)]]


def shorter_side(image, side):
    """Pillow's picture with a shorter side of `side`."""
    width, height = image.size
    short = min(width, height)
    size = tuple(side if length == short else side * length // short for length in (width, height))
    return image.resize(size, Image.Resampling.BICUBIC)


def normalised(unit):
    """[3, H, W] in [0, 1] as input of CLIP."""
    return (unit - torch.tensor(MEAN).view(3, 1, 1)) / torch.tensor(STD).view(3, 1, 1)


def unit(image):
    """[3, H, W] in [0, 1]."""
    return torch.from_numpy(numpy.asarray(image).copy()).permute(2, 0, 1).float() / 255


def crop(image, offset, side):
    """The centre of the resized picture; `offset`: from the excess of a side."""
    image = shorter_side(image, side)
    left, top = (offset(length - side) for length in image.size)
    return normalised(unit(image.crop((left, top, left + side, top + side))))


def down(excess):
    """transformers' image processor."""
    return excess // 2


def half_even(excess):
    """torchvision."""
    return int(round(excess / 2))


def draw(name, shape):
    """A parameter from a generator seeded by its name, rounded to float16."""
    seed = int.from_bytes(hashlib.sha256(name.encode()).digest()[:8], "little") >> 1
    x = torch.randn(shape, generator=torch.Generator("cpu").manual_seed(seed))
    if len(shape) == 1:
        x = x * 0.2 + 1 if name.endswith("weight") else x * 0.2
    else:
        x = x * (1.5 / math.sqrt(math.prod(shape[1:])))
    return x.half().float()


@torch.no_grad()
def drawn(model, folder):
    """`model` with drawn weights; writes them in float16."""
    for name, parameter in model.named_parameters():
        parameter.copy_(torch.tensor(4.5) if parameter.dim() == 0 else draw(f"{folder} {name}", parameter.shape))
    return model.eval()


def saved(tensors, path):
    """Writes tensors in float16."""
    save_file({name: tensor.detach().half().contiguous() for name, tensor in tensors.items()}, path, {"format": "pt"})


def written(made, config, name="config.json"):
    """Writes a configuration."""
    (made / name).write_text(json.dumps(config, indent=2) + "\n", encoding="utf-8")


def rows(made, numbers):
    """Writes scores.jsonl: picture, prompt, a number or a list of numbers by measure."""
    text = ""
    for i, (which, _) in enumerate(pictures()):
        for j, prompt in enumerate(PROMPTS):
            found = {name: torch.as_tensor(of(i, j)).tolist() for name, of in numbers.items()}
            text += json.dumps(which | {"prompt": prompt} | found) + "\n"
    (made / "scores.jsonl").write_text(text, encoding="utf-8")
