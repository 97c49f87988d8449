"""Rows of pairs, lists and labelled images, who wins, the held-out split, and how a picture becomes pixels."""

import json
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
from PIL import Image, ImageOps

from .draws import key

SWAPPED = {"npo"}  # trains winners as losers
LABELLED = {"kto"}  # takes pairs apart into images


@dataclass
class Item:
    id: str
    prompt: str
    images: list  # as trained: winner, loser; a list in the order of its row; one image
    scores: dict = field(default_factory=dict)  # scorer: one score an image
    weight: float | None = None
    tie: bool = False
    phi: list | None = None  # of a list: win fraction of each image
    desirable: bool | None = None  # of a labelled image


def read_items(path, config):
    """The items of a file in its order, ranked and swapped as the run trains them."""
    path = Path(path)
    index = next(path.glob("*.jsonl")) if path.is_dir() else path
    rows = [json.loads(line) for line in index.read_text(encoding="utf-8-sig").split("\n") if line.strip()]
    items = [item_of(row, str(number), index.parent) for number, row in enumerate(rows)]
    if not items or len(items[0].images) != 2 or items[0].phi:
        return items
    return relabelled(items, config["data"], config["method"]["name"])


def item_of(row, number, folder):
    item = Item(str(number if row.get("id") is None else row["id"]), row["prompt"], [], row.get("scores") or {})
    if "images" in row:
        item.images = [folder / image for image in row["images"]]
        item.phi = win_fractions(list(item.scores.values()) or [[-rank for rank in row["ranks"]]])
    elif "image" in row:
        item.images, item.desirable = [folder / row["image"]], row["label"]
    else:
        item.images = [folder / row["winner"], folder / row["loser"]]
        item.weight, item.tie = row.get("weight"), row.get("label") == "tie"
    return item


def win_fractions(scorers):
    k = len(scorers[0])
    wins = [sum(scores[i] > other for scores in scorers for other in scores) for i in range(k)]
    return [n / (len(scorers) * (k - 1)) for n in wins]


def ahead(item, labels):
    """Above 0 where the first image wins, below where the second does, 0 where neither."""
    if labels == "given":
        return 1
    gaps = [item.scores[name.strip()] for name in labels.split(":", 1)[1].split(",")]
    return sum((first > second) - (first < second) for first, second in gaps)


def relabelled(pairs, data, method):
    """Pairs as trained, or labelled images of them: desirable if they won once."""
    labels, kept = data.get("labels", "given"), []
    for pair in pairs:
        if pair.tie and data["ties"] != "keep":
            continue
        won = 0 if pair.tie else ahead(pair, labels)
        if won or pair.tie:
            kept.append((pair, won))
    if method in LABELLED:
        return images_of(kept)
    for pair, won in kept:
        if (won < 0) != (method in SWAPPED):
            pair.images.reverse()
            pair.scores = {name: scores[::-1] for name, scores in pair.scores.items()}
    return [pair for pair, _ in kept]


def images_of(pairs):
    items = {}
    for pair, won in pairs:
        for k, side in enumerate("wl"):
            image = pair.images[k]
            item = items.setdefault((image, pair.prompt), Item(f"{pair.id}:{side}", pair.prompt, [image], desirable=False))
            item.desirable |= won > 0 if k == 0 else won < 0
    return list(items.values())


def split(config):
    """Training and validation items: a prompt is held out by its hash, whatever the seed of the run."""
    items = read_items(config["data"]["path"], config)
    validate = config["validate"]
    if validate.get("path"):
        return items, read_items(validate["path"], config)[: validate["max_pairs"]]
    held = {x.prompt for x in items if key(0, "split", x.prompt) < validate["fraction"] * 2**63}
    train = [x for x in items if x.prompt not in held]
    return train, [x for x in items if x.prompt in held][: validate["max_pairs"]]


def weight_factors(items, weights):
    """The factor of each training pair's loss; None where the data weighs nothing."""
    if not weights or weights["source"] == "none":
        return None
    raw = [1.0 if item.weight is None else item.weight for item in items]
    if weights["source"] == "videodpo":
        raw = [(weights["c"] / q) ** weights["b"] for q in raw]
    mean = 1.0 if weights["as_published"] else sum(raw) / len(raw)
    return [x / mean for x in raw]


def decode(path):
    """A file as 8-bit RGB: EXIF turned, 16 bits rounded to 8, alpha laid over white before any resizing."""
    image = Image.open(path)
    image.load()
    image = ImageOps.exif_transpose(image)
    if image.mode.startswith("I"):
        values = np.asarray(image).astype(np.float64)
        image = Image.fromarray(np.rint(values / 257).astype(np.uint8))
    if image.mode in ("RGBA", "LA", "PA") or "transparency" in image.info:
        rgba = np.asarray(image.convert("RGBA")).astype(np.float64)
        alpha = rgba[..., 3:]
        over = np.rint((rgba[..., :3] * alpha + 255 * (255 - alpha)) / 255)
        return Image.fromarray(over.astype(np.uint8))
    return image.convert("RGB")


def transform(image, resolution, flip=False, crop=None, crops=4):
    """[3, R, R] in [-1, 1]: shorter side to R, one square of it (`crop` None: the middle), flipped or not; and what SDXL is
    told of it: height and width of the file, top and left of the square, R, R."""
    width, height = image.size
    short, long = min(width, height), max(width, height)
    longer = resolution * long // short
    size = (resolution, longer) if height > width else (longer, resolution)
    if image.size != size:
        image = image.resize(size, Image.BILINEAR)
    offset = round((longer - resolution) / 2) if crop is None else round(crop * (longer - resolution) / (crops - 1))
    left, top = (offset, 0) if size[0] > size[1] else (0, offset)
    pixels = np.asarray(image.crop((left, top, left + resolution, top + resolution)))
    pixels = np.ascontiguousarray(pixels[:, ::-1] if flip else pixels)
    time_ids = torch.tensor([height, width, top, left, resolution, resolution], dtype=torch.float32)
    return torch.from_numpy(pixels.copy()).permute(2, 0, 1).float() / 127.5 - 1, time_ids
