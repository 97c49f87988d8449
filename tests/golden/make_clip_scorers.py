#!/usr/bin/env python3
"""Makes the folders clip, hpsv2, aesthetic and mps of tests/golden/scorers: small CLIPs with drawn weights in float16,
and scores.jsonl, their numbers for pictures by transformers and OpenCLIP. And pillow.jsonl: resized pictures by Pillow.

open_clip_torch 3.3.0, torchvision 0.26.0, transformers 5.23.0, torch 2.11.0, Pillow 12.0.0. Published scores were made
with earlier versions of Pillow: all resize horizontally first. Pillow 13 shrinks pictures more than twice as high as
wide vertically first, which changes bytes.

Usage: make_clip_scorers.py
"""

import hashlib
import json
import shutil
from pathlib import Path

import open_clip
import PIL
import torch
from drawn import OUT, PROMPTS, crop, down, draw, drawn, half_even, normalised, pictures, rows, saved, shorter_side
from drawn import textured, unit, written
from safetensors.torch import save_file
from torchvision.transforms import functional
from transformers import CLIPConfig, CLIPModel, CLIPTokenizer

HERE = Path(__file__).resolve().parent
TOKENIZER = HERE.parent.parent / "pipelines/tests/golden/tokenizer/plain"
VOCABULARY = 728
SIDE = 28
PILLOW = [(224, 224), (225, 224), (231, 300), (97, 131), (131, 97), (50, 1), (1, 50), (1, 1), (2, 3), (640, 480)]
PILLOW += [(333, 1000), (223, 227), (449, 227), (30, 41), (700, 103), (227, 224), (224, 235)]
CONDITIONS = {
    "overall": "light, color, clarity, tone, style, ambiance, artistry, shape, face, hair, hands, limbs, structure, "
    "instance, texture, quantity, attributes, position, number, location, word, things.",
    "aesthetics": "light, color, clarity, tone, style, ambiance, artistry.",
    "semantic_alignment": "instance, texture, quantity, attributes, position, number, location, word, things.",
    "detail_quality": "shape, face, hair, hands, limbs, structure.",
}


def folder(name):
    """An empty folder with the small tokenizer."""
    made = OUT / name
    shutil.rmtree(made, ignore_errors=True)
    shutil.copytree(TOKENIZER, made)
    return made


def bars(image, antialias):
    """HPSv2: the whole picture between black bars."""
    pixels = unit(image)
    height, width = pixels.shape[1:]
    scale = SIDE / max(height, width)
    size = [round(height * scale), round(width * scale)]
    pixels = functional.resize(pixels, size, functional.InterpolationMode.BICUBIC, antialias=antialias)
    high, wide = SIDE - size[0], SIDE - size[1]
    return normalised(functional.pad(pixels, [wide // 2, high // 2, wide - wide // 2, high - high // 2], fill=0))


def configuration(activation, width, patch, projection):
    """config.json of a small CLIP by transformers."""
    common = {"hidden_act": activation, "layer_norm_eps": 1e-5, "num_attention_heads": 2, "num_hidden_layers": 2}
    text = {"hidden_size": 16, "intermediate_size": 64, "vocab_size": VOCABULARY, "eos_token_id": 2}
    vision = {"hidden_size": width, "intermediate_size": 4 * width, "image_size": SIDE, "patch_size": patch}
    return {
        "model_type": "clip",
        "projection_dim": projection,
        "text_config": common | text | {"bos_token_id": 0, "pad_token_id": 1, "max_position_embeddings": 77},
        "vision_config": common | vision,
    }


def ids(texts):
    """Token ids [B, 77]."""
    tokenizer = CLIPTokenizer.from_pretrained(TOKENIZER)
    given = tokenizer(texts, padding="max_length", max_length=77, truncation=True, return_tensors="pt")
    return given.input_ids


def unit_length(features):
    """Rows of length 1."""
    return features / features.norm(dim=-1, keepdim=True)


@torch.no_grad()
def clip():
    """clip_score and pickscore by transformers."""
    made, config = folder("clip"), configuration("gelu", 16, 14, 12)
    model = drawn(CLIPModel(CLIPConfig(**config)), "clip")
    written(made, config)
    saved(dict(model.named_parameters()), made / "model.safetensors")
    pixels = torch.stack([crop(image, down, SIDE) for _, image in pictures()])
    output = model(input_ids=ids(PROMPTS), pixel_values=pixels)
    cosines = output.image_embeds @ output.text_embeds.T
    rows(made, {"clip_score": lambda i, j: 100 * cosines[i, j], "pickscore": lambda i, j: output.logits_per_image[i, j]})


@torch.no_grad()
def hpsv2():
    """hpsv2 by OpenCLIP, with and without antialiasing."""
    made = folder("hpsv2")
    vision = {"image_size": SIDE, "layers": 2, "width": 24, "head_width": 8, "patch_size": 7}
    text = {"context_length": 77, "vocab_size": VOCABULARY, "width": 16, "heads": 2, "layers": 2}
    written(made, {"model_cfg": {"embed_dim": 12, "vision_cfg": vision, "text_cfg": text}}, "open_clip_config.json")
    model = drawn(open_clip.CLIP(embed_dim=12, vision_cfg=open_clip.CLIPVisionCfg(**vision), text_cfg=open_clip.CLIPTextCfg(**text)), "hpsv2")
    saved(model.state_dict(), made / "model.safetensors")
    texts = model.encode_text(ids(PROMPTS), normalize=True)

    def cosines(antialias):
        pixels = torch.stack([bars(image, antialias) for _, image in pictures()])
        return model.encode_image(pixels, normalize=True) @ texts.T

    new, old = cosines(True), cosines(False)
    rows(made, {"hpsv2": lambda i, j: 100 * new[i, j], "without_antialias": lambda i, j: 100 * old[i, j]})


@torch.no_grad()
def aesthetic():
    """A linear head on features by transformers."""
    made, config = folder("aesthetic"), configuration("quick_gelu", 16, 14, 24)
    model = drawn(CLIPModel(CLIPConfig(**config)), "aesthetic")
    written(made, config)
    saved(dict(model.named_parameters()), made / "model.safetensors")
    head = torch.nn.Linear(24, 1)
    drawn(head, "head")
    save_file({name: tensor.detach().clone() for name, tensor in head.named_parameters()}, made / "head.safetensors")
    pixels = torch.stack([crop(image, half_even, SIDE) for _, image in pictures()])
    features = unit_length(model.visual_projection(model.vision_model(pixels).pooler_output))
    ratings = head(features)[:, 0]
    rows(made, {"rating": lambda i, _: ratings[i]})


class Cross(torch.nn.Module):
    """Attention to a text beside an MLP, with one head of keys and values."""

    def __init__(self, width, heads, head, wide):
        super().__init__()
        self.heads = heads
        self.norm = torch.nn.LayerNorm(width)
        self.to_q = torch.nn.Linear(width, heads * head, bias=False)
        self.to_kv = torch.nn.Linear(width, 2 * head, bias=False)
        self.to_out = torch.nn.Linear(heads * head, width, bias=False)
        ff = [torch.nn.Linear(width, 2 * wide, bias=False), torch.nn.Identity(), torch.nn.Linear(wide, width, bias=False)]
        self.ff = torch.nn.ModuleList(ff)

    def forward(self, x, context, mask):
        n = self.norm(x)
        k, v = self.to_kv(context).chunk(2, -1)
        attended = multi_query(self.to_q(n), k, v, self.heads, mask)
        value, gate = self.ff[0](n).chunk(2, -1)
        return x + self.to_out(attended) + self.ff[2](value * torch.nn.functional.silu(gate))


def multi_query(q, k, v, heads, mask=None):
    """[B, N, heads * d] attending to k, v [B, M, d]."""
    batch, count, inner = q.shape
    q = q.view(batch, count, heads, inner // heads) * (inner // heads) ** -0.5
    similar = torch.einsum("bnhd,bmd->bhnm", q, k)
    similar = similar if mask is None else similar + mask[:, None]
    return torch.einsum("bhnm,bmd->bnhd", similar.softmax(-1), v).reshape(batch, count, inner)


class Own(torch.nn.Module):
    """Self-attention with rotary positions beside an MLP, projected together."""

    def __init__(self, width, heads, head, wide):
        super().__init__()
        self.heads, self.sizes = heads, [heads * head, head, head, 2 * wide]
        self.norm = torch.nn.LayerNorm(width)
        self.rotary_emb = torch.nn.Module()
        self.rotary_emb.register_buffer("inv_freq", 10000 ** (-torch.arange(0, head, 2).float() / head))
        self.fused_attn_ff_proj = torch.nn.Linear(width, sum(self.sizes), bias=False)
        self.attn_out = torch.nn.Linear(heads * head, width, bias=False)
        self.ff_out = torch.nn.ModuleList([torch.nn.Identity(), torch.nn.Linear(wide, width, bias=False)])

    def forward(self, x):
        q, k, v, ff = self.fused_attn_ff_proj(self.norm(x)).split(self.sizes, -1)
        q = torch.cat([self.rotated(part) for part in q.chunk(self.heads, -1)], -1)
        value, gate = ff.chunk(2, -1)
        attended = multi_query(q, self.rotated(k), v, self.heads)
        return x + self.attn_out(attended) + self.ff_out[1](value * torch.nn.functional.silu(gate))

    def rotated(self, x):
        """Complex numbers (x_i, x_{i + d/2}) turned by position times frequency."""
        first, second = x.chunk(2, -1)
        angles = torch.arange(x.shape[1]).float()[:, None] * self.rotary_emb.inv_freq
        turned = torch.complex(first, second) * torch.polar(torch.ones_like(angles), angles)
        return torch.cat([turned.real, turned.imag], -1)


@torch.no_grad()
def mps():
    """Four conditions, by transformers and the cross-attention above."""
    made, config = folder("mps"), configuration("gelu", 16, 14, 16)
    model = drawn(CLIPModel(CLIPConfig(**config)), "mps")
    layers = [torch.nn.ModuleList([Cross(16, 2, 8, 32), Own(16, 2, 8, 32)]) for _ in range(2)]
    cross = drawn(torch.nn.ModuleList(layers), "cross")
    written(made, config)
    tensors = {f"model.{name}": value for name, value in model.named_parameters()}
    for name, value in cross.state_dict().items():
        layer, part, rest = name.split(".", 2)
        value = value.half().float()
        cross.state_dict()[name].copy_(value)
        tensors[f"cross_model.layers.{layer}.{part}.fn.{rest}"] = value
    saved(tensors, made / "model.safetensors")

    def positions(text):
        output = model.text_model(ids([text]))
        return model.text_projection(output.last_hidden_state), model.text_projection(output.pooler_output)

    def number(i, j, condition, threshold):
        pixels = crop(pictures()[i][1], down, SIDE)[None]
        x = model.visual_projection(model.vision_model(pixels).last_hidden_state)
        text, end = positions(PROMPTS[j])
        similar = torch.einsum("bid,bjd->bji", text, positions(condition)[0]).max(1, keepdim=True)[0]
        mask = torch.where(similar / similar.max() > threshold, 0, float("-inf")).repeat(1, x.shape[1], 1)
        for attends, own in cross:
            x = own(attends(x, text, mask))
        return model.logit_scale.exp() * (unit_length(end) * unit_length(x[:, 0])).sum()

    # All words of these prompts pass the published threshold; fewer pass a greater one.
    numbers = {name: lambda i, j, text=text: number(i, j, text, 0.01) for name, text in CONDITIONS.items()}
    strict = {f"strict_{name}": lambda i, j, text=text: number(i, j, text, 0.7) for name, text in CONDITIONS.items()}
    rows(made, numbers | strict)


@torch.no_grad()
def heads():
    """heads.json: the layers of v2, each tensor drawn by its name, on features drawn as "features"."""
    widths = {"layers.0": (24, 1024), "layers.2": (1024, 128), "layers.4": (128, 64), "layers.6": (64, 16), "layers.7": (16, 1)}
    features = unit_length(draw("features", (5, 24)))
    x = features
    for name, (inputs, outputs) in widths.items():
        x = x @ draw(f"{name}.weight", (outputs, inputs)).T + draw(f"{name}.bias", (outputs,))
    (OUT / "aesthetic/heads.json").write_text(json.dumps(x[:, 0].tolist()) + "\n", encoding="utf-8")


def pillow():
    """pillow.jsonl: hashes of resized pictures, and offsets of both kinds of centre crop."""
    if int(PIL.__version__.split(".", maxsplit=1)[0]) >= 13:
        raise SystemExit(f"Pillow is {PIL.__version__}; the order of its passes is another from 13 on: take 12.0.0")
    text = ""
    for size in PILLOW:
        image = shorter_side(textured(*size), 224)
        digest = hashlib.sha256(image.tobytes()).hexdigest()
        left, top = ([f(length - 224) for f in (down, half_even)] for length in image.size)
        row = {"width": size[0], "height": size[1], "resized": list(image.size), "sha256": digest, "left": left, "top": top}
        text += json.dumps(row) + "\n"
    (OUT / "pillow.jsonl").write_text(text, encoding="utf-8")


for make in (clip, hpsv2, aesthetic, mps, heads, pillow):
    make()
