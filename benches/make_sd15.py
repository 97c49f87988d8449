#!/usr/bin/env python3
"""Writes a model folder of the true size of Stable Diffusion 1.5 with random float16 weights (2.1 GB).

    .python/python benches/make_sd15.py target/bench/sd15

UNet 859,520,964 parameters, AutoencoderKL 83,653,863, CLIP-L text encoder with 49,408 tokens, and a byte-level BPE
tokenizer of that size whose merges are letter combinations. Pictures made with it are noise; times and memory are real.
"""

import argparse
import json
import math
from itertools import islice, product
from pathlib import Path

import torch
from diffusers import AutoencoderKL, UNet2DConditionModel
from safetensors.torch import save_file
from transformers import CLIPTextConfig, CLIPTextModel

UNET = {
    "_class_name": "UNet2DConditionModel", "act_fn": "silu", "attention_head_dim": 8,
    "block_out_channels": [320, 640, 1280, 1280], "center_input_sample": False, "cross_attention_dim": 768,
    "down_block_types": ["CrossAttnDownBlock2D"] * 3 + ["DownBlock2D"], "downsample_padding": 1, "flip_sin_to_cos": True,
    "freq_shift": 0, "in_channels": 4, "layers_per_block": 2, "mid_block_scale_factor": 1, "norm_eps": 1e-05,
    "norm_num_groups": 32, "out_channels": 4, "sample_size": 64,
    "up_block_types": ["UpBlock2D"] + ["CrossAttnUpBlock2D"] * 3,
}
VAE = {
    "_class_name": "AutoencoderKL", "act_fn": "silu", "block_out_channels": [128, 256, 512, 512],
    "down_block_types": ["DownEncoderBlock2D"] * 4, "in_channels": 3, "latent_channels": 4, "layers_per_block": 2,
    "norm_num_groups": 32, "out_channels": 3, "sample_size": 512, "scaling_factor": 0.18215,
    "up_block_types": ["UpDecoderBlock2D"] * 4,
}
TEXT = {
    "architectures": ["CLIPTextModel"], "attention_dropout": 0.0, "bos_token_id": 49406, "eos_token_id": 49407,
    "hidden_act": "quick_gelu", "hidden_size": 768, "initializer_factor": 1.0, "initializer_range": 0.02,
    "intermediate_size": 3072, "layer_norm_eps": 1e-05, "max_position_embeddings": 77, "model_type": "clip_text_model",
    "num_attention_heads": 12, "num_hidden_layers": 12, "pad_token_id": 1, "projection_dim": 768, "vocab_size": 49408,
}
SCHEDULER = {
    "_class_name": "PNDMScheduler", "beta_end": 0.012, "beta_schedule": "scaled_linear", "beta_start": 0.00085,
    "clip_sample": False, "num_train_timesteps": 1000, "prediction_type": "epsilon", "set_alpha_to_one": False,
    "skip_prk_steps": True, "steps_offset": 1, "trained_betas": None,
}
TOKENIZER = {
    "add_prefix_space": False, "bos_token": "<|startoftext|>", "do_lower_case": True, "eos_token": "<|endoftext|>",
    "errors": "replace", "model_max_length": 77, "pad_token": "<|endoftext|>", "tokenizer_class": "CLIPTokenizer",
    "unk_token": "<|endoftext|>",
}
INDEX = {
    "_class_name": "StableDiffusionPipeline", "_diffusers_version": "0.42.1", "feature_extractor": [None, None],
    "safety_checker": [None, None], "requires_safety_checker": False, "scheduler": ["diffusers", "PNDMScheduler"],
    "text_encoder": ["transformers", "CLIPTextModel"], "tokenizer": ["transformers", "CLIPTokenizer"],
    "unet": ["diffusers", "UNet2DConditionModel"], "vae": ["diffusers", "AutoencoderKL"],
}
PARAMETERS = {"unet": 859_520_964, "vae": 83_653_863, "text_encoder": 123_060_480}


def write(path, value):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(value, indent=2) + "\n")


def random_weights(network, generator):
    """float16 tensors of a network built without memory: norms 1, biases 0, the rest normal by fan-in."""
    weights = {}
    for name, parameter in network.named_parameters():
        shape, last = tuple(parameter.shape), name.rpartition(".")[2]
        if last == "bias":
            weights[name] = torch.zeros(shape, dtype=torch.float16)
        elif len(shape) == 1:
            weights[name] = torch.ones(shape, dtype=torch.float16)
        else:
            std = 0.02 if "embedding" in name else 1 / math.sqrt(math.prod(shape[1:]))
            weights[name] = torch.randn(shape, generator=generator).mul_(std).half()
    return weights


def component(folder, name, config, network, stem, generator):
    count = sum(p.numel() for p in network.parameters())
    assert count == PARAMETERS[name], f"{name}: {count} parameters, not {PARAMETERS[name]}"
    write(folder / name / "config.json", config)
    save_file(random_weights(network, generator), folder / name / f"{stem}.safetensors", {"format": "pt"})
    print(f"{name}: {count:,} parameters", flush=True)


def byte_units():
    """The 256 printable stand-ins for bytes of a byte-level BPE, in CLIP's order."""
    own = [*range(33, 127), *range(161, 173), *range(174, 256)]
    others = [b for b in range(256) if b not in own]
    return [chr(b) for b in own] + [chr(256 + i) for i in range(len(others))]


def tokenizer(folder):
    """49,408 entries: bytes, bytes at a word's end, every combination of 2 and 3 letters, some of 4, two special ones."""
    letters = "abcdefghijklmnopqrstuvwxyz"
    two = ["".join(x) for x in product(letters, repeat=2)]
    merges = [(a, b + end) for end in ("", "</w>") for a, b in two]
    merges += [(a, b + end) for end in ("", "</w>") for a, b in product(two, letters)]
    units = byte_units()
    units += [u + "</w>" for u in units]
    merges += islice(product(two, two), 49_406 - len(units) - len(merges))
    tokens = units + [a + b for a, b in merges] + ["<|startoftext|>", "<|endoftext|>"]
    assert len(tokens) == len(set(tokens)) == 49_408
    write(folder / "tokenizer_config.json", TOKENIZER)
    write(folder / "vocab.json", {token: i for i, token in enumerate(tokens)})
    lines = ["#version: 0.2", *(" ".join(m) for m in merges)]
    (folder / "merges.txt").write_text("\n".join(lines) + "\n")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    folder = parser.parse_args().folder
    generator = torch.Generator("cpu").manual_seed(0)
    with torch.device("meta"):
        unet, vae, text = UNet2DConditionModel(**UNET), AutoencoderKL(**VAE), CLIPTextModel(CLIPTextConfig(**TEXT))
    stem = "diffusion_pytorch_model"
    component(folder, "vae", VAE, vae, stem, generator)
    component(folder, "text_encoder", TEXT, text, "model", generator)
    component(folder, "unet", UNET, unet, stem, generator)
    tokenizer(folder / "tokenizer")
    write(folder / "scheduler" / "scheduler_config.json", SCHEDULER)
    write(folder / "model_index.json", INDEX)  # last: a folder that has it is whole


if __name__ == "__main__":
    main()
