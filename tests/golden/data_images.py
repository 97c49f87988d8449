"""Makes the picture files in tests/golden/images and what Pillow makes of them (NAME.rR.CROP.png beside them).

    .python/python tests/golden/data_images.py
"""

import json
import pathlib

import numpy as np
from PIL import Image, ImageCms, ImageOps

OUT = pathlib.Path(__file__).parent / "images"
OUT.mkdir(exist_ok=True)
rng = np.random.default_rng(0)


def picture(w, h, channels=3):
    """Smooth waves with noise: every value of a channel occurs, edges are sharp in places."""
    y, x = np.mgrid[0:h, 0:w][..., None].reshape(2, h, w, 1)
    phase = np.arange(channels) * 1.7
    waves = 127 + 90 * np.sin(x / 5 + phase) * np.cos(y / 7 - phase) + rng.normal(0, 25, (h, w, channels))
    waves[: h // 3, : w // 3] = 255
    return np.clip(waves, 0, 255).astype(np.uint8)


def rgb_of(path):
    image = ImageOps.exif_transpose(Image.open(path))
    if image.mode == "I;16":
        return Image.fromarray(np.floor(np.asarray(image).astype(np.float64) / 257 + 0.5).astype(np.uint8)).convert("RGB")
    if image.mode in ("RGBA", "LA") or "transparency" in image.info:
        pixels = np.asarray(image.convert("RGBA")).astype(np.int64)
        c, a = pixels[..., :3], pixels[..., 3:]
        return Image.fromarray(((c * a + 255 * (255 - a)) / 255 + 0.5).astype(np.uint8))
    return image.convert("RGB")


def square(image, r, crop, flip):
    w, h = image.size
    if min(w, h) != r:
        w, h = (r, r * h // w) if w <= h else (r * w // h, r)
        image = image.resize((w, h), Image.Resampling.BILINEAR)
    at = lambda long: round((long - r) / 2) if crop == "center" else round(crop[0] * (long - r) / (crop[1] - 1))
    left, top = at(w), at(h)
    image = image.crop((left, top, left + r, top + r))
    return (ImageOps.mirror(image) if flip else image), top, left


def exif(orientation):
    data = Image.Exif()
    data[0x0112] = orientation
    return data


save = lambda name, array, mode=None, **more: (Image.fromarray(array) if mode is None else Image.fromarray(array).convert(mode)).save(OUT / name, **more)
save("rgb.png", picture(50, 37))
save("wide.png", picture(97, 21))
save("tiny.png", picture(9, 13))
save("rgba.png", picture(41, 40, 4))
save("gray.png", picture(33, 48, 1)[..., 0])
save("gray-alpha.png", picture(33, 30, 2))
Image.fromarray(picture(45, 39)).quantize(32).save(OUT / "palette.png")
palette = Image.fromarray(picture(45, 39)).quantize(16)
palette.save(OUT / "palette-transparent.png", transparency=3)
Image.fromarray(rng.integers(0, 65536, (29, 31), dtype=np.uint16)).save(OUT / "gray16.png")
save("420.jpg", picture(53, 42), quality=88, subsampling=2)
save("444-odd.jpg", picture(31, 47), quality=95, subsampling=0)
save("progressive.jpg", picture(44, 44), quality=80, progressive=True)
save("gray.jpg", picture(40, 31, 1)[..., 0], quality=85)
save("cmyk.jpg", picture(36, 40), "CMYK", quality=90)
for orientation in (3, 6, 7):
    save(f"exif-{orientation}.jpg", picture(46, 31), quality=90, exif=exif(orientation))
save("exif-8.png", picture(30, 22), exif=exif(8))
save("lossless.webp", picture(34, 43), lossless=True)
save("alpha.webp", picture(34, 30, 4), lossless=True, exact=True)
save("plain.bmp", picture(30, 35))
save("palette.gif", picture(28, 33))

cases = []
for path in sorted(p for p in OUT.iterdir() if p.name.count(".") == 1):
    upright = rgb_of(path)
    plans = [(24, "center", False), (40, "center", True)]
    if path.name in ("rgb.png", "wide.png", "exif-6.jpg"):
        plans += [(21, (1, 4), False), (37, (3, 4), True), (64, (2, 5), False)]
    for r, crop, flip in plans:
        expected, top, left = square(upright, r, crop, flip)
        label = "c" if crop == "center" else f"{crop[0]}of{crop[1]}"
        name = f"{path.name}.r{r}.{label}{'f' if flip else ''}.png"
        expected.save(OUT / name, optimize=True)
        time_ids = [upright.height, upright.width, top, left, r, r]
        cases.append({"file": path.name, "resolution": r, "crop": None if crop == "center" else crop, "flip": flip, "expected": name, "time_ids": time_ids})
(OUT / "cases.json").write_text("[\n" + ",\n".join(json.dumps(c) for c in cases) + "\n]\n")

# TIFFs of kinds that Pillow reads and the decoder here refuses with the kind, and one that it reads.
REFUSED = OUT.parent / "images-refused"
REFUSED.mkdir(exist_ok=True)
small = Image.new("RGB", (6, 4))
small.putdata([(x * 40, y * 60, 90) for y in range(4) for x in range(6)])
small.quantize(8).save(REFUSED / "palette.tif")
profile = ImageCms.createProfile
ImageCms.profileToProfile(small, profile("sRGB"), profile("LAB"), outputMode="LAB").save(REFUSED / "lab.tif")
small.convert("L").convert("F").save(REFUSED / "float.tif")
small.convert("YCbCr").save(REFUSED / "ycbcr.tif")
small.convert("1").save(REFUSED / "one-bit.tif")
Image.open(REFUSED / "one-bit.tif").convert("RGB").save(REFUSED / "one-bit.tif.png")
