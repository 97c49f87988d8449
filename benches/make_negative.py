#!/usr/bin/env python3
"""Two LoRAs of rank 8 on the attentions of a UNet, and another UNet, for the memory of a negative side: make_negative.py MODEL OUT"""

import json
import shutil
import sys
from pathlib import Path

import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file

model, out = Path(sys.argv[1]), Path(sys.argv[2])
weights = model / "unet/diffusion_pytorch_model.safetensors"
generator = torch.Generator().manual_seed(1)
with safe_open(weights, "pt") as file:
    layers = [name for name in file.keys() if name.endswith(("to_q.weight", "to_k.weight", "to_v.weight", "to_out.0.weight"))]
    shapes = {name: file.get_slice(name).get_shape() for name in layers}
for side in ("positive", "negative"):
    tensors = {}
    for name, (rows, columns) in shapes.items():
        path = "unet." + name.removesuffix(".weight")
        tensors[f"{path}.lora_A.weight"] = torch.randn(8, columns, generator=generator) / 8
        tensors[f"{path}.lora_B.weight"] = torch.randn(rows, 8, generator=generator) * 1e-3
    save_file(tensors, out / f"{side}.safetensors", {"format": "pt"})
folder = out / "negative-unet"
folder.mkdir(exist_ok=True)
shutil.copy(model / "unet/config.json", folder)
tensors = load_file(weights)
tensors["conv_in.bias"] += 0.01
save_file(tensors, folder / weights.name, {"format": "pt"})
print(json.dumps({"layers": len(layers)}))
