"""From a picture file to pixels."""

import numpy as np
import torch
from PIL import Image, ImageOps


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
    """[3, R, R] in [-1, 1]: shorter side to R, one square of it (`crop` None: the middle), flipped or not; and the
    values of SDXL's time_ids: height and width of the file, top and left of the square, R, R."""
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
