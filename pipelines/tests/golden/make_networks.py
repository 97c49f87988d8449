"""Writes networks/*.safetensors, the golden files of pipelines/tests/networks.rs, from networks/*.json.

    .python/python pipelines/tests/golden/make_networks.py

Each file: `input.*`, `target.*`, `output.*`, and over all parameters in the order of their names `norms` (of the
gradients) and `samples` (up to 32 evenly spaced elements of each gradient, one after the other).
"""

import torch
from networks import CASES, build, cases, gradients, inputs, outputs, sample, targets
from safetensors.torch import save_file

for name, (kind, config) in cases().items():
    model = build(kind, config)
    given = inputs(kind, config)
    made = outputs(kind, model, given)
    wanted = targets(made)
    grads = gradients(kind, model, made, wanted)
    tensors = {f"input.{key}": value for key, value in given.items()}
    tensors |= {f"target.{key}": value for key, value in wanted.items()}
    tensors |= {f"output.{key}": value.detach().contiguous() for key, value in made.items()}
    tensors["norms"] = torch.stack([g.norm() for g in grads.values()])
    tensors["samples"] = torch.cat([sample(g) for g in grads.values()])
    save_file(tensors, CASES / f"{name}.safetensors")
    spread = {key: f"{value.std():.3g}" for key, value in made.items()}
    print(f"{name}: {len(grads)} parameters, {sum(g.numel() for g in grads.values())} values, outputs {spread}")
