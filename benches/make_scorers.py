#!/usr/bin/env python3
"""Makes the folders of benches/scorers.sh: pictures of 512 px, CLIPs of the sizes ViT-B/32 and ViT-L/14 and an
ImageReward with random weights in float16: make_scorers.py FOLDER."""

import json
import shutil
import sys
from pathlib import Path

import numpy
import torch
from PIL import Image
from safetensors.torch import save_file
from transformers import BlipTextConfig, BlipVisionConfig, BlipVisionModel, CLIPConfig, CLIPModel
from transformers.models.blip.modeling_blip_text import BlipTextModel

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / "tests/golden"))
from make_imagereward import WIDTHS, published  # noqa: E402

PICTURES = 64
CLIPS = {
    "clip-b32": ({"hidden_size": 512, "num_attention_heads": 8}, {"hidden_size": 768, "num_attention_heads": 12, "patch_size": 32}, 512, 12),
    "clip-l14": ({"hidden_size": 768, "num_attention_heads": 12}, {"hidden_size": 1024, "num_attention_heads": 16, "patch_size": 14}, 768, 24),
}


def saved(tensors, path):
    save_file({name: tensor.detach().half().contiguous() for name, tensor in tensors.items()}, path, {"format": "pt"})


def pictures(folder):
    folder.mkdir(parents=True, exist_ok=True)
    generator = numpy.random.default_rng(0)
    rows = ""
    for i in range(PICTURES):
        small = generator.integers(0, 256, (16, 16, 3), dtype=numpy.uint8)
        Image.fromarray(small).resize((512, 512), Image.Resampling.BICUBIC).save(folder / f"{i:03}.png")
        rows += json.dumps({"picture": f"{i:03}.png", "prompt": f"a photograph of thing number {i}"}) + "\n"
    (folder / "images.jsonl").write_text(rows)


def clip(name, folder):
    text, vision, projection, layers = CLIPS[name]
    text = text | {"intermediate_size": 4 * text["hidden_size"], "num_hidden_layers": 12}
    vision = vision | {"intermediate_size": 4 * vision["hidden_size"], "num_hidden_layers": layers}
    config = CLIPConfig(text_config=text, vision_config=vision, projection_dim=projection)
    folder.mkdir(exist_ok=True)
    (folder / "config.json").write_text(json.dumps(config.to_dict(), default=str))
    saved(dict(CLIPModel(config).named_parameters()), folder / "model.safetensors")


def imagereward(folder):
    folder.mkdir(exist_ok=True)
    shared = {"hidden_act": "gelu"}
    sizes = {"vocab_size": 30524, "hidden_size": 768, "num_hidden_layers": 12, "num_attention_heads": 12}
    (folder / "med_config.json").write_text(json.dumps(shared | sizes | {"intermediate_size": 3072}))
    words = (ROOT / "tests/golden/scorers/imagereward/vocab.txt").read_text()
    (folder / "vocab.txt").write_text(words)
    large = {"hidden_size": 1024, "num_hidden_layers": 24, "num_attention_heads": 16, "intermediate_size": 4096}
    vision = BlipVisionModel(BlipVisionConfig(**shared, **large, image_size=224, patch_size=16, layer_norm_eps=1e-6))
    text = BlipTextConfig(**shared, **sizes, layer_norm_eps=1e-12, encoder_hidden_size=1024, is_decoder=True)
    head, width = {}, 768
    for name, outputs in WIDTHS.items():
        head |= {f"{name}.weight": torch.randn(outputs, width) / width**0.5, f"{name}.bias": torch.zeros(outputs)}
        width = outputs
    saved(published(vision, BlipTextModel(text, add_pooling_layer=False), head), folder / "model.safetensors")


work = Path(sys.argv[1])
torch.manual_seed(0)
pictures(work / "pictures")
for made in CLIPS:
    clip(made, work / made)
imagereward(work / "imagereward")
(work / "pictures/done").touch()
