"""Writes clip/*.safetensors, the golden files of pipelines/tests/it/clip.rs, from clip/*.json.

    .python/python pipelines/tests/golden/make_clip.py

Weights are not stored: both sides draw every parameter from a generator seeded by its name (networks.py). Each file:
`input.ids`, and `output.*`, by transformers' CLIPModel in float32. Pixels are drawn as `input.pixels`.
"""

import json
from pathlib import Path

import torch
from networks import draw, generator
from safetensors.torch import save_file
from transformers import CLIPConfig, CLIPModel

CASES = Path(__file__).parent / "clip"
LOGIT_SCALE = 2.6592
PICTURES = 3
POSITIONS = [0, 1, 2, -1]


def build(config):
    """The model with drawn weights."""
    model = CLIPModel(CLIPConfig(**config))
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            parameter.copy_(torch.tensor(LOGIT_SCALE) if parameter.dim() == 0 else draw(name, parameter.shape))
    return model.eval()


def ids(config):
    """Texts of three lengths, the end token repeated behind them."""
    text = config["text_config"]
    drawn = torch.randint(3, text["vocab_size"] - 1, (3, 11), generator=generator("input.ids"))
    end = text["vocab_size"] - 1 if text["eos_token_id"] == 2 else text["eos_token_id"]
    for row, place in enumerate((10, 4, 7)):
        drawn[row, place:] = end
    return drawn


@torch.no_grad()
def outputs(model, config, given):
    """Features and, of the first picture and text, some positions in the common space."""
    side = config["vision_config"]["image_size"]
    pixels = torch.randn((PICTURES, 3, side, side), generator=generator("input.pixels"))
    text, vision = model.text_model(given), model.vision_model(pixels)
    return {
        "text_features": model.text_projection(text.pooler_output),
        "picture_features": model.visual_projection(vision.pooler_output),
        "text_positions": model.text_projection(text.last_hidden_state[:1]),
        "picture_positions": model.visual_projection(vision.last_hidden_state[:1, POSITIONS]),
        "scale": model.logit_scale.exp(),
    }


for path in sorted(CASES.glob("*.json")):
    config = json.loads(path.read_text())
    model, given = build(config), ids(config)
    made = outputs(model, config, given)
    tensors = {"input.ids": given} | {f"output.{name}": value.contiguous() for name, value in made.items()}
    save_file(tensors, path.with_suffix(".safetensors"))
    count = sum(parameter.numel() for parameter in model.parameters())
    print(path.stem, f"{count} values", {name: f"{value.std():.3g}" for name, value in made.items() if value.dim()})
