"""Compressed images (PNG, JPEG, ...) to one array of one shape."""

import io
from collections import Counter
from collections.abc import Iterable

import numpy as np
from PIL import Image, UnidentifiedImageError

from nas.data.base import Images
from nas.errors import InputError

_GREY_MODES = {"1", "L", "LA"}
_COLOUR_MODES = {"P", "PA", "RGB", "RGBA", "RGBX", "CMYK", "YCbCr"}
# What Pillow raises on damaged files, by format.
_DAMAGE = (OSError, SyntaxError, ValueError, Image.DecompressionBombError)


def decode(encoded: Iterable[bytes], places: Iterable[str]) -> tuple[Images, int]:
    """Returns images as one array and how many of them were resized to fit.

    The common size is the most frequent one (the largest of them on a tie); other images are resized to it (bilinear,
    antialiased). All become RGB as soon as one has colour, else grey. Transparency is dropped.

    Args:
        encoded: a complete image file each, at least one.
        places: where each comes from, for messages.

    Returns:
        ``(n, c, h, w)`` uint8, and the number of resized images.

    Raises:
        InputError: an image is damaged or has more than 8 bits a channel; the message names it.
    """
    images = [_decode(data, place) for data, place in zip(encoded, places, strict=True)]
    sizes = Counter(image.size for image in images)
    size = max(sizes, key=lambda size: (sizes[size], size))
    mode, channels = ("RGB", 3) if any(image.mode == "RGB" for image in images) else ("L", 1)
    array = np.empty((len(images), channels, size[1], size[0]), np.uint8)
    for row, image in enumerate(images):
        fitted = image if image.size == size else image.resize(size, Image.Resampling.BILINEAR)
        pixels = np.asarray(fitted if fitted.mode == mode else fitted.convert(mode))
        array[row] = pixels.reshape(size[1], size[0], channels).transpose(2, 0, 1)
    return array, sizes.total() - sizes[size]


def _decode(data: bytes, place: str) -> Image.Image:
    try:
        image: Image.Image = Image.open(io.BytesIO(data))
        image.load()
    except _DAMAGE as error:
        reason = "not an image that Pillow knows" if isinstance(error, UnidentifiedImageError) else str(error)
        raise InputError(f"{place} cannot be read as an image: {reason}; mend or remove it") from None
    if image.mode not in _GREY_MODES | _COLOUR_MODES:
        raise InputError(f"{place} must have 8 bits a channel, its Pillow mode is {image.mode}; convert or remove it")
    mode = "L" if image.mode in _GREY_MODES else "RGB"
    return image if image.mode == mode else image.convert(mode)
