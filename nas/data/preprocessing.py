"""Images as stored to tensors as a network takes them: one function for training, calibration and verification."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from nas.data.stored import Images
from nas.errors import InputError

_CHUNK = 2048  # images; keeps the float32 copies of a large data set small


def inputs(images: Images, resolution: int, mean: Sequence[float], std: Sequence[float]) -> NDArray[np.float32]:
    """Returns network inputs: scaled to 0..1, resized to a square, normalised.

    The result of an image does not depend on the images beside it, bit for bit. Images that are not square are
    stretched.

    Args:
        images: ``(n, c, h, w)`` uint8.
        resolution: edge of the result in pixels; no resizing where the images have it already.
        mean: per channel on the 0..1 scale, length 1 or c.
        std: per channel on the 0..1 scale, length 1 or c.

    Returns:
        ``(n, c, resolution, resolution)`` float32.

    Raises:
        InputError: the images are not of that shape and type, or mean and std do not fit their channels.
    """
    if images.ndim != 4 or images.dtype != np.uint8:
        raise InputError(f"images must be (n, c, h, w) uint8, got {images.shape} {images.dtype}")
    count, channels, height, width = images.shape
    if resolution < 1 or len(mean) != len(std) or len(mean) not in (1, channels) or min(std) <= 0:
        raise InputError(
            f"resolution must be at least 1, mean and std must have 1 or {channels} values and std must be positive, "
            f"got {resolution=}, {mean=}, {std=}"
        )
    # (x / 255 - mean) / std as one multiplication and one addition.
    scale = (1 / (255 * np.asarray(std, np.float64))).astype(np.float32)[:, None, None]
    shift = (-np.asarray(mean, np.float64) / np.asarray(std, np.float64)).astype(np.float32)[:, None, None]
    rows, columns = resize_matrix(height, resolution), resize_matrix(width, resolution).T
    result = np.empty((count, channels, resolution, resolution), np.float32)
    for start in range(0, count, _CHUNK):
        chunk: NDArray[np.float32] = images[start : start + _CHUNK].astype(np.float32)
        if (height, width) != (resolution, resolution):
            chunk = np.matmul(np.matmul(rows, chunk), columns)
        result[start : start + _CHUNK] = chunk * scale + shift
    return result


def resize_matrix(size: int, target: int) -> NDArray[np.float32]:
    """Returns the ``(target, size)`` weights of a bilinear resize along one axis; each row sums to 1.

    Antialiased: where the image shrinks, the triangle filter widens by the same factor (as in Pillow's
    ``Resampling.BILINEAR`` and PyTorch's ``interpolate(mode="bilinear", antialias=True)``).
    """
    ratio = size / target
    support = max(ratio, 1.0)
    centres = (np.arange(target) + 0.5) * ratio
    distances = (np.arange(size) + 0.5)[None] - centres[:, None]
    weights = np.maximum(0, 1 - np.abs(distances) / support)
    normalised: NDArray[np.float32] = (weights / weights.sum(1, keepdims=True)).astype(np.float32)
    return normalised
