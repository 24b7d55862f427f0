"""Small data sets written to disk for the tests of the sources."""

import gzip
import io
from pathlib import Path

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from PIL import Image
from pyarrow import parquet


def random_images(count: int, channels: int = 3, size: int = 6, seed: int = 0) -> NDArray[np.uint8]:
    """``(count, channels, size, size)`` random pixels."""
    return np.random.default_rng(seed).integers(0, 256, (count, channels, size, size), dtype=np.uint8)


def png(image: NDArray[np.uint8]) -> bytes:
    """PNG, which is lossless, of a ``(c, h, w)`` image."""
    pixels = image[0] if len(image) == 1 else image.transpose(1, 2, 0)
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "PNG")
    return file.getvalue()


def write_parquet(
    file: Path, images: NDArray[np.uint8], labels: list[int] | list[str], metadata: dict[str, str] | None = None
) -> None:
    table = pa.table({"image": [png(image) for image in images], "label": labels})
    parquet.write_table(table.replace_schema_metadata(metadata), file)


def idx_bytes(array: NDArray[np.uint8]) -> bytes:
    """An IDX file of unsigned bytes."""
    return bytes([0, 0, 8, array.ndim]) + np.array(array.shape, ">u4").tobytes() + array.tobytes()


def write_idx(folder: Path, part: str, images: NDArray[np.uint8], labels: NDArray[np.uint8], packed: bool) -> None:
    """The two files of a part; ``(n, h, w)`` images."""
    for name, array in ((f"{part}-images-idx3-ubyte", images), (f"{part}-labels-idx1-ubyte", labels)):
        data = idx_bytes(array)
        (folder / (name + ".gz" if packed else name)).write_bytes(gzip.compress(data) if packed else data)


def write_folder(folder: Path, images: NDArray[np.uint8], labels: list[str]) -> None:
    for number, (image, label) in enumerate(zip(images, labels, strict=True)):
        (folder / label).mkdir(parents=True, exist_ok=True)
        (folder / label / f"{number:03}.png").write_bytes(png(image))
