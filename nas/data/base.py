"""What a data source reads (`RawData`) and what the product works on (`ImageData`: three fixed splits)."""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from nas.data.stored import Images, StoredImages
from nas.errors import InputError

Labels = NDArray[np.int64]
SplitName = Literal["train", "validation", "test"]


@dataclass(frozen=True, eq=False)
class Split:
    """Images and their labels.

    Attributes:
        images: ``(n, c, h, w)`` uint8, an array or, where they do not fit in memory, in a file.
        labels: ``(n,)`` int64, index into the class names.
    """

    images: Images
    labels: Labels

    def __post_init__(self) -> None:
        if self.images.dtype != np.uint8 or self.images.ndim != 4 or self.images.shape[1] not in (1, 3):
            raise ValueError(f"images must be (n, 1 or 3, h, w) uint8, got {self.images.shape} {self.images.dtype}")
        if self.labels.dtype != np.int64 or self.labels.shape != self.images.shape[:1]:
            raise ValueError(f"labels must be ({len(self.images)},) int64, got {self.labels.shape} {self.labels.dtype}")

    def __len__(self) -> int:
        return len(self.labels)


@dataclass(frozen=True, eq=False)
class Part:
    """One part of a data set as its files hold it.

    Attributes:
        split: the images in the order of the files.
        places: where each image comes from, for people: a file's name, or a file and a row.
    """

    split: Split
    places: Sequence[str]

    def __post_init__(self) -> None:
        if len(self.places) != len(self.split):
            raise ValueError(f"places must be one for each of the {len(self.split)} images, got {len(self.places)}")

    def take(self, rows: slice | NDArray[np.int64]) -> "Part":
        """Returns the images of these rows, in this order; those of a slice, and those in a file, are not copied."""
        images = self.split.images
        taken = images.take(rows) if isinstance(images, StoredImages) else images[rows]
        places = self.places[rows] if isinstance(rows, slice) else tuple(self.places[row] for row in rows)
        return Part(Split(taken, self.split.labels[rows]), places)


@dataclass(frozen=True, eq=False)
class RawData:
    """A data set as its source holds it, before it is split.

    Attributes:
        name: of the data set.
        class_names: in label order.
        train: what training and validation images are taken from; the test images too where ``test`` is None.
        test: the data's own test split.
        source: where the images come from.
        licence: None where the files do not say.
        resized: images that had another size than the rest and were resized.
    """

    name: str
    class_names: tuple[str, ...]
    train: Part
    test: Part | None
    source: str
    licence: str | None = None
    resized: int = 0

    def __post_init__(self) -> None:
        if len(self.class_names) < 2:
            raise InputError(f"classification needs at least two classes, {self.source} has {list(self.class_names)}")
        for part in filter(None, (self.train, self.test)):
            if not len(part.split):
                raise InputError(f"{self.source} holds no {'training' if part is self.train else 'test'} images")
            wrong = np.flatnonzero((part.split.labels < 0) | (part.split.labels >= len(self.class_names)))
            if len(wrong):
                raise InputError(
                    f"a label must lie in 0..{len(self.class_names) - 1} as there are {len(self.class_names)} classes, "
                    f"got {part.split.labels[wrong[0]]} in {part.places[wrong[0]]}; {len(wrong)} labels are wrong"
                )
        if self.test and self.test.split.images.shape[1:] != self.train.split.images.shape[1:]:
            raise InputError(
                f"training and test images must have one shape (channels, height, width), {self.source} has "
                f"{self.train.split.images.shape[1:]} and {self.test.split.images.shape[1:]}"
            )


@dataclass(frozen=True)
class Duplicate:
    """An image dropped from a split because a more protected split holds the same pixels.

    Attributes:
        split: where it was dropped.
        place: file and row of the dropped image.
        kept_split: the split that keeps the picture.
        kept_place: file and row of the kept image.
        same_label: False where the two disagree.
    """

    split: SplitName
    place: str
    kept_split: SplitName
    kept_place: str
    same_label: bool


@dataclass(frozen=True)
class Leakage:
    """Exact duplicates, by SHA-256 of the decoded pixels.

    Attributes:
        dropped: one entry for each image dropped; nothing the splits share is left.
        repeats: for each split, images that repeat an earlier one of the same split; these are kept.
        conflicts: places of the images of each picture that carries more than one label.
    """

    dropped: tuple[Duplicate, ...] = ()
    repeats: dict[SplitName, int] = field(default_factory=dict)
    conflicts: tuple[tuple[str, ...], ...] = ()


@dataclass(frozen=True, eq=False)
class ImageData:
    """A data set in three fixed splits that share no picture.

    Attributes:
        name: of the data set.
        class_names: in label order.
        train: what weights are fitted on, in an order whose every prefix holds the classes nearly in proportion.
        validation: what every choice is made on, in the same kind of order.
        test_split: what final figures are taken from; read it as ``test``. None after `without_test`.
        mean: per channel, of the training split, on the 0..1 scale.
        std: per channel, of the training split, on the 0..1 scale; 1 for a constant channel.
        hashes: SHA-256 of each split's pixels and labels, in order.
        leakage: duplicates found and dropped.
        source: where the images come from.
        licence: None where the files do not say.
        resized: images that had another size than the rest and were resized.
    """

    name: str
    class_names: tuple[str, ...]
    train: Split
    validation: Split
    test_split: Split | None
    mean: tuple[float, ...]
    std: tuple[float, ...]
    hashes: dict[SplitName, str]
    leakage: Leakage
    source: str
    licence: str | None = None
    resized: int = 0

    @property
    def test(self) -> Split:
        """The split that only final figures may be taken from.

        Raises:
            RuntimeError: this is the view for selection, see `without_test`.
        """
        if self.test_split is None:
            raise RuntimeError("selection must not see the test split; only finishing loads the data with it")
        return self.test_split

    def without_test(self) -> "ImageData":
        """Returns the view for training and selection: reading ``test`` raises."""
        return replace(self, test_split=None)

    @property
    def classes(self) -> int:
        """Number of classes."""
        return len(self.class_names)

    @property
    def image_channels(self) -> int:
        """1 for grey, 3 for RGB."""
        return int(self.train.images.shape[1])

    @property
    def image_size(self) -> tuple[int, int]:
        """Height and width in pixels."""
        return int(self.train.images.shape[2]), int(self.train.images.shape[3])


def existing_folder(path: Path | None, how_to_get: str) -> Path:
    """Returns the folder of a source.

    Raises:
        InputError: there is no such folder; the message says how to get the data.
    """
    if path is None or not path.is_dir():
        raise InputError(f"data.path must be a folder with the images, {path} is none; {how_to_get}")
    return path


def numbered(file: str, count: int) -> tuple[str, ...]:
    """Returns the places of the rows of one file."""
    return tuple(f"{file} row {row}" for row in range(count))
