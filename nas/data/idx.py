"""MNIST-style IDX files, plain or gzipped (format: http://yann.lecun.com/exdb/mnist, "the IDX file format")."""

import gzip
import hashlib
import math
import zlib
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from nas.data.base import Part, RawData, Split, existing_folder, numbered
from nas.errors import InputError

_HOW_TO_GET = (
    "put train-images-idx3-ubyte and train-labels-idx1-ubyte (.gz or not) there; Fashion-MNIST comes with "
    "`apt-get install dataset-fashion-mnist` in /usr/share/datasets/fashion-mnist"
)
_UNSIGNED_BYTE = 0x08
# IDX files carry no class names or licence; a data set is known by its training labels.
_FASHION_MNIST_LABELS = "657fbd221bfc9f4198cc14b5619cc33ec57c58dd0e47af4d99d6650759e869a7"
_FASHION_MNIST_CLASSES = (
    "T-shirt/top",
    "trouser",
    "pullover",
    "dress",
    "coat",
    "sandal",
    "shirt",
    "sneaker",
    "bag",
    "ankle boot",
)


def read(path: Path | None) -> RawData:
    """Returns the images of a folder of IDX files; ``t10k-*`` or ``test-*`` files are its own test split.

    Raises:
        InputError: a file is missing, truncated or not IDX, or images and labels differ in number.
    """
    folder = existing_folder(path, _HOW_TO_GET)
    train = _part(folder, "train")
    if train is None:
        raise InputError(f"{folder} holds no train-images-idx3-ubyte or train-images-idx3-ubyte.gz; {_HOW_TO_GET}")
    test = _part(folder, "t10k") or _part(folder, "test")
    if hashlib.sha256(train.split.labels.astype(np.uint8).tobytes()).hexdigest() == _FASHION_MNIST_LABELS:
        source = "Fashion-MNIST, https://github.com/zalandoresearch/fashion-mnist (Xiao, Rasul, Vollgraf 2017)"
        return RawData("fashion-mnist", _FASHION_MNIST_CLASSES, train, test, source, licence="MIT")
    largest = max(int(part.split.labels.max(initial=0)) for part in (train, test) if part)
    return RawData(folder.resolve().name, tuple(map(str, range(largest + 1))), train, test, f"IDX files in {folder}")


def _part(folder: Path, prefix: str) -> Part | None:
    images_file = _find(folder, f"{prefix}-images", "idx3")
    if images_file is None:
        return None
    labels_file = _find(folder, f"{prefix}-labels", "idx1")
    if labels_file is None:
        raise InputError(f"{images_file} has no labels beside it; add {prefix}-labels-idx1-ubyte or its .gz")
    images, labels = _array(images_file, dimensions=3), _array(labels_file, dimensions=1)
    if len(images) != len(labels):
        raise InputError(
            f"{images_file} holds {len(images)} images and {labels_file.name} {len(labels)} labels; they must be equal"
        )
    return Part(Split(images[:, None], labels.astype(np.int64)), numbered(images_file.name, len(images)))


def _find(folder: Path, stem: str, kind: str) -> Path | None:
    names = [f"{stem}{dot}{kind}-ubyte{suffix}" for dot in "-." for suffix in ("", ".gz")]
    return next((folder / name for name in names if (folder / name).is_file()), None)


def _array(file: Path, dimensions: int) -> NDArray[np.uint8]:
    try:
        data = gzip.decompress(file.read_bytes()) if file.suffix == ".gz" else file.read_bytes()
    except (OSError, EOFError, zlib.error) as error:
        raise InputError(f"cannot read {file}: {error}; the file is damaged or cut off, fetch it again") from None
    header = 4 + 4 * dimensions
    if data[:4] != bytes([0, 0, _UNSIGNED_BYTE, dimensions]) or len(data) < header:
        raise InputError(
            f"{file} must begin with the IDX header 00 00 08 {dimensions:02x} (unsigned bytes, {dimensions} "
            f"dimensions), got {data[:4].hex(' ') or 'an empty file'}"
        )
    shape = tuple(int(size) for size in np.frombuffer(data, ">u4", dimensions, offset=4))
    if math.prod(shape) != len(data) - header:
        raise InputError(
            f"{file} must hold {math.prod(shape)} values as its header says {shape}, it holds {len(data) - header}; "
            "fetch it again"
        )
    return np.frombuffer(data, np.uint8, offset=header).reshape(shape)
