"""Rows of the three kinds of data files as items, their preferences, and the held-out split."""

import json
from dataclasses import dataclass, field
from pathlib import Path

from .draws import key

LISTS = {"rankdpo", "lipo_lambda", "plackett_luce", "mpo"}


def labelled(method):
    """Whether [method] trains on labelled images."""
    return method["name"] in ("kto", "pmpo") or method.get("items") == "labels" or method.get("form") == "unpaired"


@dataclass
class Item:
    """The pictures at one position of the order. They share a prompt and a timestep."""

    id: str
    prompt: str
    images: tuple  # pairs: winner, loser; lists: as in the file; labels: one
    written: tuple = ()  # pairs: winner, loser of the file, whatever `data.labels` says
    better: tuple = ()  # (i, j) for every two images of which i is preferred, by phi
    tie: bool = False  # the two of `better` are equally good
    desirable: bool = True  # labels
    weight: float = 1.0  # of the row
    scores: dict = field(default_factory=dict)  # pairs: scorer -> [winner's, loser's]
    phi: tuple = ()  # lists


def rows(path):
    """(folder, id, record) of every row of a data file, or of the only one in a folder."""
    path = Path(path)
    index = next(path.glob("*.jsonl")) if path.is_dir() else path
    for number, line in enumerate(x for x in index.read_text().splitlines() if x.strip()):
        record = json.loads(line)
        yield index.parent, str(number if record.get("id") is None else record["id"]), record


def vote(labels, scores):
    """Above 0: the first image wins, below: the second, 0: nobody."""
    kind, _, names = labels.partition(":")
    sign = lambda name: (scores[name][0] > scores[name][1]) - (scores[name][0] < scores[name][1])
    return sum(sign(name) for name in names.split(",")) if kind in ("score", "vote") else 1


def pair(folder, name, record, data):
    """A row of pairs.jsonl as labelled by `data.labels`; None for one that is not used."""
    tie = record.get("label") == "tie"
    if tie and data["ties"] == "drop":
        return None
    sides, scores = [folder / record["winner"], folder / record["loser"]], record.get("scores") or {}
    if (won := vote(data.get("labels", "given"), scores)) == 0:
        return None
    turn = 1 if won > 0 else -1
    scores = {scorer: values[::turn] for scorer, values in scores.items()}
    weight = record.get("weight")
    return Item(name, record["prompt"], tuple(sides[::turn]), tuple(sides), ((0, 1),), tie,
                weight=1.0 if weight is None else weight, scores=scores)


def swapped(item):
    """The pair as npo trains it: the loser is learnt."""
    item.images = item.images[::-1]
    item.scores = {scorer: values[::-1] for scorer, values in item.scores.items()}
    return item


def win_fractions(record):
    """phi of every image of a list: its wins over the others, over all scorers; ranks are one scorer (methods.md 8)."""
    scorers = list((record.get("scores") or {}).values()) or [[-rank for rank in record["ranks"]]]
    k = len(record["images"])
    wins = [sum(scores[i] > scores[j] for scores in scorers for j in range(k)) for i in range(k)]
    return tuple(x / (len(scorers) * (k - 1)) for x in wins)


def listed(folder, name, record):
    phi, weight = win_fractions(record), record.get("weight")
    better = tuple((i, j) for i in range(len(phi)) for j in range(len(phi)) if phi[i] > phi[j])
    images = tuple(folder / image for image in record["images"])
    return Item(name, record["prompt"], images, better=better, phi=phi, weight=1.0 if weight is None else weight)


def labels_of(pairs):
    """Labelled images of pairs: one item per picture and prompt in order of first appearance, desirable if it won once. Order and ids
    follow the file, wins `data.labels`."""
    items = {}
    for row in pairs:
        for place, image in zip("wl", row.written):
            item = Item(f"{row.id}:{place}", row.prompt, (image,), desirable=False)
            items.setdefault((image, row.prompt), item).desirable |= image == row.images[0]
    return list(items.values())


def read(path, config):
    """Items of a data file as the method of `config` trains on them."""
    name, found = config["method"]["name"], []
    for folder, item, record in rows(path):
        if "images" in record:
            made = listed(folder, item, record)
            made = None if name == "mpo" and not made.better else made
        elif "image" in record:
            made = Item(item, record["prompt"], (folder / record["image"],), desirable=record["label"])
        else:
            made = pair(folder, item, record, config["data"])
        found += [made] if made else []
    if labelled(config["method"]) and found and len(found[0].images) == 2:
        return labels_of(found)
    return [swapped(x) for x in found] if name == "npo" else found


def split(config):
    """Training and validation items: a prompt is held out by its hash, whatever the seed of the run."""
    items, validate = read(config["data"]["path"], config), config["validate"]
    if validate.get("path"):
        return items, read(validate["path"], config)[: validate["max_pairs"]]
    held = {x.prompt for x in items if key(0, "split", x.prompt) < validate["fraction"] * 2**63}
    train = [x for x in items if x.prompt not in held]
    return train, [x for x in items if x.prompt in held][: validate["max_pairs"]]
