"""Decoded images in a file, for data sets that are larger than memory."""

import hashlib
import logging
import math
import os
from collections.abc import Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Self

import numpy as np
from numpy.typing import NDArray

from nas.config import DataConfig
from nas.data.in_order import in_order
from nas.errors import InputError
from search_spaces.atomic import write_bytes
from search_spaces.checksum import read_json, write_json
from search_spaces.file_lock import hold

DIGEST = np.dtype("S32")
"""A SHA-256. NumPy leaves zeros at the end of it out, of each in the same way."""

_FORMAT = 1
_IMAGES, _DIGESTS, _MANIFEST = "images.u8", "images.sha256", "manifest.json"
_PARTIAL, _LOCK = "images.partial", "lock"
_CHUNK_BYTES = 2**22
_log = logging.getLogger(__name__)


@dataclass(frozen=True, eq=False)
class StoredImages:
    """Images in a file; to whoever slices it, an array ``(n, c, h, w)`` uint8.

    A slice, or the images of an array of rows, is read from the file when it is asked for, as an ordinary array. What
    is pickled is where the file is: another process reads it by itself, on another machine from a disk that they share.

    Attributes:
        folder: of the file, in `ImageStore.folder`.
        image_shape: channels, height, width.
        rows: ``(n,)`` int64, which of the file's images these are.
    """

    folder: Path
    image_shape: tuple[int, int, int]
    rows: NDArray[np.int64]

    dtype = np.dtype(np.uint8)
    ndim = 4

    def __len__(self) -> int:
        return len(self.rows)

    @property
    def shape(self) -> tuple[int, int, int, int]:
        """``(n, c, h, w)``."""
        return (len(self.rows), *self.image_shape)

    @property
    def nbytes(self) -> int:
        """Bytes of the images as an array."""
        return math.prod(self.shape)

    def __getitem__(self, index: slice | NDArray[np.int64]) -> NDArray[np.uint8]:
        """Reads images.

        Raises:
            InputError: the file is not on this machine, or shorter than it was.
        """
        rows = self.rows[index]
        images = np.empty((len(rows), *self.image_shape), np.uint8)
        size = math.prod(self.image_shape)
        try:
            # Read, not mapped: what is read stays in the system's cache and does not count as this process's memory.
            with open(self.folder / _IMAGES, "rb", buffering=0) as file:
                for image, row in zip(images, rows.tolist(), strict=True):
                    if os.preadv(file.fileno(), [image.data], row * size) != size:
                        raise OSError("it is cut off")
        except OSError as error:
            raise InputError(
                f"cannot read the decoded images in {self.folder}: {error.strerror or error}; start again to decode "
                "them anew, and on a cluster let data.cache be a folder that the machines share"
            ) from None
        return images

    def take(self, rows: slice | NDArray[np.int64]) -> Self:
        """Returns the images of these rows, without reading them."""
        return type(self)(self.folder, self.image_shape, self.rows[rows])

    def digests(self) -> NDArray[np.bytes_]:
        """Returns the SHA-256 of each image, ``(n,)`` of `DIGEST`, as noted when they were decoded."""
        return np.fromfile(self.folder / _DIGESTS, DIGEST)[self.rows]


Images = NDArray[np.uint8] | StoredImages
"""Images ``(n, c, h, w)`` uint8; a slice of them is an array."""


def chunks(images: Images) -> Iterator[NDArray[np.uint8]]:
    """Yields the images in order, some megabytes at a time."""
    step = images_a_chunk(images.shape[1:])
    for start in range(0, len(images), step):
        yield images[start : start + step]


def images_a_chunk(image_shape: tuple[int, ...]) -> int:
    """Returns how many images of a shape are some megabytes."""
    return max(1, _CHUNK_BYTES // max(1, math.prod(image_shape)))


def image_digests(images: Images) -> NDArray[np.bytes_]:
    """Returns the SHA-256 of the pixels of each image, ``(n,)`` of `DIGEST`."""
    if isinstance(images, StoredImages):
        return images.digests()
    return _digests(images)


def _digests(images: NDArray[np.uint8]) -> NDArray[np.bytes_]:
    return np.array([hashlib.sha256(image.tobytes()).digest() for image in images], DIGEST)


@dataclass(frozen=True)
class ImageStore:
    """Where decoded images are kept that are too large for memory.

    Each data set has a folder there, named after its files (place, names, sizes, times of change) and what decodes
    them. It is whole once its manifest is written, which is the last thing.

    Attributes:
        folder: of all data sets.
        memory_bytes: decoded images of up to this size are kept in memory instead.
    """

    folder: Path
    memory_bytes: int

    @classmethod
    def of(cls, config: DataConfig) -> Self:
        """Returns the store of an experiment: ``data.cache``, else a folder in the user's cache directory."""
        user = os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache")  # Path.home() needs one
        return cls((config.cache or Path(user, "hwnas", "images")).absolute(), int(config.memory_gb * 1e9))

    def key(self, source: Path, files: Iterable[Path]) -> str:
        """Returns the name of a data set's folder.

        Args:
            source: folder of the files.
            files: that are decoded, in order.

        Raises:
            InputError: a file cannot be found.
        """
        digest = hashlib.sha256(repr((_FORMAT, version("pillow"), str(source.resolve()))).encode())
        for file in files:
            try:
                stat = file.stat()
            except OSError as error:
                raise InputError(f"{file} cannot be read: {error.strerror}; mend or remove it") from None
            digest.update(repr((str(file.relative_to(source)), stat.st_size, stat.st_mtime_ns)).encode())
        return digest.hexdigest()[:32]

    def find(self, key: str) -> tuple[Images, int] | None:
        """Returns the images under a key and how many of them were resized, or None where they must be decoded.

        All are read once and compared with what was written.
        """
        folder = self.folder / key
        try:
            manifest = read_json(folder / _MANIFEST)
            count, *image_shape = manifest["shape"]
            digests = np.fromfile(folder / _DIGESTS, DIGEST)
            stored = StoredImages(folder, tuple(image_shape), np.arange(count))
            if hashlib.sha256(digests.tobytes()).hexdigest() != manifest["sha256"]:
                raise ValueError("the list of hashes is not the one that was written")
            step = images_a_chunk(stored.image_shape)
            read = in_order(lambda start: _digests(stored[start : start + step]), range(0, count, step))
            if not np.array_equal(np.concatenate(list(read)), digests):
                raise ValueError("images are not those that were written")
        except (FileNotFoundError, NotADirectoryError, PermissionError):
            return None
        except (OSError, ValueError) as error:
            _log.warning("the decoded images in %s are damaged and are decoded again: %s", folder, error)
            with suppress(OSError):
                (folder / _MANIFEST).unlink()
            return None
        return self._kept(stored), int(manifest["resized"])

    def write(
        self, key: str, source: str, shape: tuple[int, int, int, int], resized: int, parts: Iterable[NDArray[np.uint8]]
    ) -> Images:
        """Writes decoded images and returns them; where another process is at it, waits and returns what that wrote.

        Args:
            key: of the data set.
            source: of the images, for people.
            shape: of all together.
            resized: how many were resized.
            parts: the images in order.

        Raises:
            InputError: the folder cannot be written, or the disk is full.
        """
        folder, size = self.folder / key, math.prod(shape)
        partial, digests = folder / _PARTIAL, []
        try:
            folder.mkdir(parents=True, exist_ok=True)
            with hold(folder / _LOCK, wait=True):
                found = self.find(key)
                if found:
                    return found[0]
                _log.info("decoding %s to %s: %.1f GB", source, folder, size / 1e9)
                (folder / _MANIFEST).unlink(missing_ok=True)
                try:
                    with open(partial, "wb") as file:
                        os.posix_fallocate(file.fileno(), 0, size)  # a full disk is noticed before hours of decoding
                        for part in parts:
                            digests.append(_digests(part))
                            file.write(part.data)
                        file.flush()
                        os.fsync(file.fileno())
                    os.replace(partial, folder / _IMAGES)
                finally:
                    partial.unlink(missing_ok=True)
                every = np.concatenate(digests).tobytes()
                write_bytes(folder / _DIGESTS, every)
                manifest = {"source": source, "shape": list(shape), "resized": resized}
                write_json(folder / _MANIFEST, {**manifest, "sha256": hashlib.sha256(every).hexdigest()})
        except OSError as error:
            raise InputError(
                f"data.cache must be a folder that holds {size / 1e9:.2f} GB of decoded images, {self.folder} does not "
                f"({error.strerror or error}): name one on a larger disk, or raise data.memory_gb to decode into memory"
            ) from None
        return self._kept(StoredImages(folder, shape[1:], np.arange(shape[0])))

    def _kept(self, stored: StoredImages) -> Images:
        return stored[:] if stored.nbytes <= self.memory_bytes else stored
