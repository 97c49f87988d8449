"""Render the drawings: every name of NAMES in six styles, with transparent ground.

Reads WORK/npm/NAME/package/icons.json (unpacked by make.sh) and the renderer resvg-py from WORK/py. Writes
assets/testbed: drawings/STYLE.webp and names.jsonl (layouts in README.md).

Usage: drawings.py WORK
"""

import hashlib
import io
import json
import math
import sys
from pathlib import Path

from common import SHEET_COLUMNS, SIZE, STYLES, TESTBED, write_rows
from PIL import Image

# Icon names, which six icon packages share. The six drawings of a name agree in shape and colour, and no two names
# look alike.
NAMES = """
american-football balloon baseball joystick trophy video-game baby-chick bear cactus cherry-blossom chipmunk crab
evergreen-tree frog lady-beetle lion maple-leaf palm-tree panda pig shamrock spider sunflower tulip whale wolf amphora
bread cheese-wedge chestnut cocktail-glass cookie doughnut egg french-fries green-apple lollipop melon peach peanuts
pineapple tangerine tomato bathtub briefcase candle crossed-swords crown door graduation-cap hammer jeans key
light-bulb package pushpin saxophone shield sunglasses toilet top-hat violin wrench airplane anchor barber-pole
bicycle church classical-building cloud droplet fire high-voltage hourglass-done police-car shinto-shrine snowflake
star taxi umbrella
""".split()
# Prompts that are not the icon name with spaces.
PROMPTS = {"high-voltage": "lightning", "hourglass-done": "hourglass"}
HELD_OUT = 28
RENDERED = 192
# Alpha up to this value (of 255) counts as empty when the margins are cut off.
EMPTY = 8


def svg_of(package, icon):
    """SVG text of an icon of an Iconify package."""
    alias = package.get("aliases", {}).get(icon, {})
    entry = package["icons"][alias.get("parent", icon)]
    box = [entry.get(key, package.get(key, default))
           for key, default in (("left", 0), ("top", 0), ("width", 16), ("height", 16))]
    return ('<svg xmlns="http://www.w3.org/2000/svg" xmlns:xlink="http://www.w3.org/1999/xlink" '
            f'viewBox="{" ".join(map(str, box))}">{entry["body"]}</svg>')


def fitted(picture):
    """RGBA picture without its margins, centred in SIZE x SIZE, its longest side SIZE."""
    box = picture.getchannel("A").point(lambda value: 255 if value > EMPTY else 0).getbbox()
    width, height = box[2] - box[0], box[3] - box[1]
    side = max(width, height)
    square = Image.new("RGBA", (side, side))
    square.paste(picture.crop(box), ((side - width) // 2, (side - height) // 2))
    return square.resize((SIZE, SIZE), Image.Resampling.LANCZOS)


def held_out(slugs):
    """The HELD_OUT `slugs` whose SHA-256 is smallest: kept out of all preference data."""
    return set(sorted(slugs, key=lambda slug: hashlib.sha256(slug.encode()).hexdigest())[:HELD_OUT])


def main():
    """Write drawings and names."""
    work = Path(sys.argv[1])
    sys.path.insert(0, str(work / "py"))
    import resvg_py  # noqa: PLC0415 (in the work folder, see make.sh)

    prompts = [PROMPTS.get(icon, icon.replace("-", " ")) for icon in NAMES]
    slugs = [prompt.replace(" ", "-") for prompt in prompts]
    kept_back = held_out(slugs)
    (TESTBED / "drawings").mkdir(parents=True, exist_ok=True)
    for style, name in STYLES.items():
        package = json.loads((work / "npm" / name / "package/icons.json").read_text(encoding="utf-8"))
        sheet = Image.new("RGBA", (SHEET_COLUMNS * SIZE, math.ceil(len(NAMES) / SHEET_COLUMNS) * SIZE))
        for index, icon in enumerate(NAMES):
            data = resvg_py.svg_to_bytes(svg_string=svg_of(package, icon), width=RENDERED, height=RENDERED)
            drawing = fitted(Image.open(io.BytesIO(bytes(data))).convert("RGBA"))
            sheet.paste(drawing, (index % SHEET_COLUMNS * SIZE, index // SHEET_COLUMNS * SIZE))
        sheet.save(TESTBED / "drawings" / f"{style}.webp", "WEBP", lossless=True, quality=100, method=6)
    write_rows(TESTBED / "names.jsonl", [{"prompt": prompt, "slug": slug, "held_out": slug in kept_back}
                                         for prompt, slug in zip(prompts, slugs)])
    print(f"{len(slugs)} names, {len(kept_back)} of them held out")


if __name__ == "__main__":
    main()
