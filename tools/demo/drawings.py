"""Take the drawings of animals, fruit and vegetables out of the two emoji packages.

Reads WORK/npm/{google,twitter}/package (unpacked by make.sh), writes assets/emoji:
drawings/{flat,shaded}/SLUG.png and names.jsonl (see README.md).

Usage: drawings.py WORK
"""

import hashlib
import json
import sys
from pathlib import Path

from common import EMOJI, SIZE, write_rows
from PIL import Image

SUBCATEGORIES = ("animal-mammal", "animal-bird", "animal-marine", "animal-bug",
                 "food-fruit", "food-vegetable")
PACKAGES = {"flat": "twitter", "shaded": "google"}
HELD_OUT_SHARE = 0.2


def over_white(path):
    """The picture at `path` as RGB of SIZE x SIZE, its transparent parts white."""
    picture = Image.open(path).convert("RGBA")
    if picture.size != (SIZE, SIZE):
        picture = picture.resize((SIZE, SIZE), Image.Resampling.LANCZOS)
    white = Image.new("RGBA", picture.size, (255, 255, 255, 255))
    return Image.alpha_composite(white, picture).convert("RGB")


def held_out(slugs):
    """The fifth of `slugs` whose SHA-256 is smallest: kept out of the preference pairs."""
    order = sorted(slugs, key=lambda slug: hashlib.sha256(slug.encode()).hexdigest())
    return set(order[:round(HELD_OUT_SHARE * len(order))])


def chosen(packages):
    """The emoji.json entries to use, in their order there, that both packages have a picture for."""
    entries = json.loads((packages["shaded"] / "emoji.json").read_text(encoding="utf-8"))
    return [entry for entry in entries if entry["subcategory"] in SUBCATEGORIES
            and all((folder / f"img/{PACKAGES[style]}/64" / entry["image"]).exists()
                    for style, folder in packages.items())]


def main():
    """Write drawings and names."""
    work = Path(sys.argv[1])
    packages = {style: work / "npm" / name / "package" for style, name in PACKAGES.items()}
    rows = []
    for entry in chosen(packages):
        prompt = entry["name"].lower()
        slug = prompt.replace(" ", "-")
        rows.append({"prompt": prompt, "slug": slug, "subcategory": entry["subcategory"],
                     "emoji": "".join(chr(int(code, 16)) for code in entry["unified"].split("-"))})
        for style, folder in packages.items():
            target = EMOJI / "drawings" / style / f"{slug}.png"
            target.parent.mkdir(parents=True, exist_ok=True)
            picture = over_white(folder / f"img/{PACKAGES[style]}/64" / entry["image"])
            picture.save(target, optimize=True)
    if len({row["prompt"] for row in rows}) != len(rows):
        sys.exit("two emoji share a name")
    kept_back = held_out([row["slug"] for row in rows])
    for row in rows:
        row["held_out"] = row["slug"] in kept_back
    write_rows(EMOJI / "names.jsonl", rows)
    print(f"{len(rows)} names, {len(kept_back)} of them held out of the pairs")


if __name__ == "__main__":
    main()
