"""Compressed images (PNG, JPEG, ...) to one array of one shape."""

import io
import math
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, UnidentifiedImageError

from nas.data.in_order import in_order
from nas.data.stored import Images, ImageStore, images_a_chunk
from nas.errors import InputError

_GREY_MODES = {"1", "L", "LA"}
_COLOUR_MODES = {"P", "PA", "RGB", "RGBA", "RGBX", "CMYK", "YCbCr"}
# What Pillow raises on damaged files, by format.
_DAMAGE = (OSError, SyntaxError, ValueError, Image.DecompressionBombError)


@dataclass(frozen=True)
class Encoded:
    """Compressed images, read anew each time they are asked for.

    Attributes:
        folder: of the files.
        files: that hold the images.
        images: of one complete image file each, its content or its path; at least one.
        places: where each comes from, for messages.
    """

    folder: Path
    files: Callable[[], Iterable[Path]]
    images: Callable[[], Iterable[bytes | Path]]
    places: Sequence[str]


def decode(encoded: Encoded, store: ImageStore | None = None) -> tuple[Images, int]:
    """Returns images of one shape and how many of them were resized to fit.

    The common size is the most frequent one (the largest of them on a tie); other images are resized to it (bilinear,
    antialiased). All become RGB as soon as one has colour, else grey. Transparency is dropped.

    Sizes and colours are read first, from the images' headers; then images are decoded, some at a time.

    Args:
        encoded: the compressed images.
        store: of decoded images that are too large for memory; None to keep all in memory.

    Returns:
        ``(n, c, h, w)`` uint8, and the number of resized images.

    Raises:
        InputError: an image is damaged or has more than 8 bits a channel; the message names it. Or the store cannot
            hold the decoded images.
    """
    key = store.key(encoded.folder, encoded.files()) if store else ""
    found = store.find(key) if store else None
    if found:
        return found
    sizes, grey = Counter[tuple[int, int]](), True
    for data, place in zip(encoded.images(), encoded.places, strict=True):
        with _opened(data, place) as image:
            sizes[image.size] += 1
            grey = grey and image.mode in _GREY_MODES
    width, height = max(sizes, key=lambda size: (sizes[size], size))
    shape, resized = (sizes.total(), 1 if grey else 3, height, width), sizes.total() - sizes[width, height]
    parts = _decoded(encoded, shape[1:])
    if store and math.prod(shape) > store.memory_bytes:
        return store.write(key, str(encoded.folder), shape, resized, parts), resized
    images, start = np.empty(shape, np.uint8), 0
    for part in parts:
        images[start : start + len(part)] = part
        start += len(part)
    return images, resized


def _decoded(encoded: Encoded, image_shape: tuple[int, int, int]) -> Iterator[NDArray[np.uint8]]:
    """Yields the images in order, decoded by several threads, some megabytes at a time."""
    channels, height, width = image_shape
    mode = "L" if channels == 1 else "RGB"

    def decoded(some: list[tuple[bytes | Path, str]]) -> NDArray[np.uint8]:
        array = np.empty((len(some), *image_shape), np.uint8)
        for row, (data, place) in enumerate(some):
            image = _loaded(data, place)
            if image.size != (width, height):
                image = image.resize((width, height), Image.Resampling.BILINEAR)
            pixels = np.asarray(image if image.mode == mode else image.convert(mode))
            array[row] = pixels.reshape(height, width, channels).transpose(2, 0, 1)
        return array

    every = zip(encoded.images(), encoded.places, strict=True)
    some = iter(lambda: list(islice(every, images_a_chunk(image_shape))), [])
    return in_order(decoded, some)


def _opened(data: bytes | Path, place: str) -> Image.Image:
    """Returns an image of which the header is read."""
    try:
        image: Image.Image = Image.open(io.BytesIO(data) if isinstance(data, bytes) else data)
    except _DAMAGE as error:
        raise _damaged(place, error) from None
    if image.mode not in _GREY_MODES | _COLOUR_MODES:
        raise InputError(f"{place} must have 8 bits a channel, its Pillow mode is {image.mode}; convert or remove it")
    return image


def _loaded(data: bytes | Path, place: str) -> Image.Image:
    """Returns a whole image, grey or RGB."""
    with _opened(data, place) as image:
        try:
            image.load()
        except _DAMAGE as error:
            raise _damaged(place, error) from None
        mode = "L" if image.mode in _GREY_MODES else "RGB"
        return image if image.mode == mode else image.convert(mode)


def _damaged(place: str, error: Exception) -> InputError:
    reason = "not an image that Pillow knows" if isinstance(error, UnidentifiedImageError) else str(error)
    return InputError(f"{place} cannot be read as an image: {reason}; mend or remove it")
