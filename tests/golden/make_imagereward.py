#!/usr/bin/env python3
"""Makes tests/golden/scorers/imagereward: a small ImageReward with drawn weights in float16 under the names of the
published file, a small vocabulary, scores.jsonl with features and rewards by transformers' BLIP, and tokens.jsonl with
ids by a WordPiece written here.

transformers 5.23.0, torch 2.11.0.

Usage: .python/python tests/golden/make_imagereward.py
"""

import json
import shutil
import string
import unicodedata

import torch
from drawn import OUT, PROMPTS, crop, draw, drawn, half_even, pictures, rows, saved, written
from transformers import BlipTextConfig, BlipVisionConfig, BlipVisionModel
from transformers.models.blip.modeling_blip_text import BlipTextModel

SIDE, PATCH, VISION, LENGTH = 16, 4, 128, 35
MEAN, STD = 0.16717362830052426, 1.0333394966054072
SPECIAL = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
WORDS = "a the of on in red apple cat house moon sitting long very prompt cafe don t und it s ##ing ##ed ##s sit photo ##graph".split()
WIDTHS = {"layers.0": 1024, "layers.2": 128, "layers.4": 64, "layers.6": 16, "layers.7": 1}
TEXTS = [
    *PROMPTS,
    "",
    "Photographs, photographed: PHOTO!",
    "don't sit -- it's a café",
    "caf\u00e9 and cafe\u0301",
    "[SEP] a [MASK] cat [CLS]",
    "sitting" * 20,
    "x" * 101,
    "x" * 100,
    "猫 on 月",
    "a\u00a0cat\tin\nthe house\u200b",
    "Ünd ÄÖ ß ı İ",
    "😀 apple",
    "1234 cats @ 5%",
    "\u0000a\ufffd cat",
    "a_cat (red) [apple]",
    "“quoted” — dash",
    "the " * 40,
]


def vocabulary():
    """Tokens in the order of their ids."""
    letters = string.ascii_lowercase + string.digits
    pieces = [*letters, *(f"##{letter}" for letter in letters), *string.punctuation, "“", "—", "月"]
    return SPECIAL + list(dict.fromkeys([*pieces, *WORDS]))


def is_punctuation(c):
    """As BERT has it: ASCII symbols count too."""
    return c in string.punctuation or unicodedata.category(c).startswith("P")


def is_control(c):
    return c not in "\t\n\r" and unicodedata.category(c) in ("Cc", "Cf", "Cn", "Co")


def is_chinese(c):
    spans = [(0x4E00, 0x9FFF), (0x3400, 0x4DBF), (0x20000, 0x2A6DF), (0xF900, 0xFAFF)]
    return any(low <= ord(c) <= high for low, high in spans)


def words(text):
    """Lower-cased words and marks without accents; special tokens stay whole."""
    for token in SPECIAL:
        if token in text:
            before, after = text.split(token, 1)
            return words(before) + [token] + words(after)
    clean = ""
    for c in text:
        if ord(c) in (0, 0xFFFD) or is_control(c):
            continue
        clean += " " if c.isspace() else f" {c} " if is_chinese(c) else c
    plain = "".join(c for c in unicodedata.normalize("NFD", clean.lower()) if unicodedata.category(c) != "Mn")
    found, open_word = [], ""
    for c in plain + " ":
        if c == " " or is_punctuation(c):
            found += [open_word] if open_word else []
            found += [c] if c != " " else []
            open_word = ""
        else:
            open_word += c
    return found


def pieces(word, known):
    """The longest known beginning, again and again."""
    if word in SPECIAL:
        return [word]
    found, start = [], 0
    while start < len(word):
        ends = [end for end in range(len(word), start, -1) if ("##" if start else "") + word[start:end] in known]
        if not ends or len(word) > 100:
            return ["[UNK]"]
        found.append(("##" if start else "") + word[start : ends[0]])
        start = ends[0]
    return found


def ids(text):
    """Start, at most 33 tokens, end."""
    known = {token: place for place, token in enumerate(vocabulary())}
    tokens = [known[piece] for word in words(text) for piece in pieces(word, known)]
    return [known["[CLS]"], *tokens[: LENGTH - 2], known["[SEP]"]]


def published(vision, text, head):
    """Tensors under the names of ImageReward.pt."""
    renames = [
        ("embeddings.class_embedding", "cls_token"),
        ("embeddings.position_embedding", "pos_embed"),
        ("embeddings.patch_embedding", "patch_embed.proj"),
        ("encoder.layers", "blocks"),
        ("self_attn.qkv", "attn.qkv"),
        ("self_attn.projection", "attn.proj"),
        ("layer_norm1", "norm1"),
        ("layer_norm2", "norm2"),
        ("post_layernorm", "norm"),
    ]
    tensors = {}
    for name, value in vision.named_parameters():
        for theirs, ours in renames:
            name = name.replace(theirs, ours)
        tensors[f"blip.visual_encoder.{name}"] = value
    tensors |= {f"blip.text_encoder.{name}": value for name, value in text.named_parameters()}
    tensors |= {f"mlp.{name}": value for name, value in head.items()}
    unused = {"blip.vision_proj.weight": torch.zeros(2, 2), "blip.text_encoder.embeddings.position_ids": torch.zeros(1, 2)}
    return tensors | unused


@torch.no_grad()
def main():
    made = OUT / "imagereward"
    shutil.rmtree(made, ignore_errors=True)
    made.mkdir()
    (made / "vocab.txt").write_text("".join(f"{token}\n" for token in vocabulary()), encoding="utf-8")
    text = "".join(json.dumps({"text": text, "ids": ids(text)}, ensure_ascii=False) + "\n" for text in TEXTS)
    (made / "tokens.jsonl").write_text(text, encoding="utf-8")
    shared = {"hidden_act": "gelu", "num_hidden_layers": 2, "num_attention_heads": 2}
    sizes = {"hidden_size": 16, "intermediate_size": 48, "vocab_size": len(vocabulary()), "max_position_embeddings": 64}
    config = shared | sizes | {"layer_norm_eps": 1e-12, "add_cross_attention": True}
    written(made, config, "med_config.json")
    kind = BlipVisionConfig(
        **shared, hidden_size=VISION, intermediate_size=32, image_size=SIDE, patch_size=PATCH, layer_norm_eps=1e-6
    )
    vision = drawn(BlipVisionModel(kind), "imagereward vision")
    kind = BlipTextConfig(**shared, **sizes, layer_norm_eps=1e-12, encoder_hidden_size=VISION, is_decoder=True)
    text = drawn(BlipTextModel(kind, add_pooling_layer=False), "imagereward text")
    head, width = {}, 16
    for name, outputs in WIDTHS.items():
        head[f"{name}.weight"] = draw(f"imagereward {name}.weight", (outputs, width))
        head[f"{name}.bias"] = draw(f"imagereward {name}.bias", (outputs,))
        width = outputs
    saved(published(vision, text, head), made / "model.safetensors")

    def features(i, j):
        """Padded to 35 and masked, as published."""
        picture = vision(crop(pictures()[i][1], half_even, SIDE)[None]).last_hidden_state
        tokens = ids(PROMPTS[j])
        mask = torch.tensor([[1] * len(tokens) + [0] * (LENGTH - len(tokens))])
        padded = torch.tensor([tokens + [0] * (LENGTH - len(tokens))])
        seen = torch.ones(picture.shape[:2], dtype=torch.long)
        read = text(input_ids=padded, attention_mask=mask, encoder_hidden_states=picture, encoder_attention_mask=seen)
        return read.last_hidden_state[0, 0]

    def reward(i, j):
        x = features(i, j)
        for name in WIDTHS:
            x = head[f"{name}.weight"] @ x + head[f"{name}.bias"]
        return (x[0] - MEAN) / STD

    rows(made, {"reward": reward, "features": features})


if __name__ == "__main__":
    main()
