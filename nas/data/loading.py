"""From a `DataConfig` to three fixed splits that share no picture."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from nas.config import DataConfig
from nas.data import digits, folder, idx, parquet
from nas.data.base import ImageData, Labels, RawData, SplitName
from nas.data.duplicates import separate, split_digest
from nas.data.stored import Images, ImageStore, chunks
from nas.errors import InputError

READERS: dict[str, Callable[[Path | None, ImageStore], RawData]] = {
    "digits": lambda path, store: digits.read(path),
    "idx": lambda path, store: idx.read(path),
    "parquet": parquet.read,
    "folder": folder.read,
}
"""By `DataConfig.name`."""


def load_data(config: DataConfig) -> ImageData:
    """Returns the data set of an experiment; the same config and files give the same splits.

    The data's own test split is kept as it is, otherwise ``test_fraction`` of the images becomes the test split. Of
    the rest, the first ``max_images`` are used, and ``validation_fraction`` of them becomes the validation split. All
    are stratified by class. Then no picture stays in two splits (`nas.data.duplicates.separate`).

    Images of Parquet tables and folders that are larger than ``memory_gb`` once decoded are decoded to a file
    (`nas.data.stored`); all that is said of them here is the same.

    Raises:
        InputError: the files break a rule of their source, a split would be empty or training lack a class, or decoded
            images cannot be kept on disk.
    """
    raw = READERS[config.name](config.path, ImageStore.of(config))
    rows, test = stratified_order(raw.train.split.labels, np.random.default_rng(config.seed)), raw.test
    if test is None:
        count = round(config.test_fraction * len(rows))
        test, rows = raw.train.take(rows[:count]), rows[count:]
    rows = rows[: config.max_images]
    count = round(config.validation_fraction * len(rows))
    validation, train = raw.train.take(rows[:count]), raw.train.take(rows[count:])
    parts, leakage = separate({"test": test, "validation": validation, "train": train})
    for name, part in parts.items():
        if not len(part.split):
            raise InputError(
                f"the {name} split of {raw.source} would be empty ({len(raw.train.split)} images read, "
                f"{config.max_images=}, {len(leakage.dropped)} duplicates dropped); use more images"
            )
    counts = np.bincount(parts["train"].split.labels, minlength=len(raw.class_names))
    if not counts.all():
        lacking = raw.class_names[int(np.argmin(counts))]
        raise InputError(
            f"the training split must hold every class, class {lacking!r} of {raw.source} has none among "
            f"{counts.sum()} images ({config.max_images=}); add images of it or raise data.max_images"
        )
    mean, std = channel_statistics(parts["train"].split.images)
    hashes: dict[SplitName, str] = {name: split_digest(part.split) for name, part in parts.items()}
    return ImageData(
        name=raw.name,
        class_names=raw.class_names,
        train=parts["train"].split,
        validation=parts["validation"].split,
        test_split=parts["test"].split,
        mean=mean,
        std=std,
        hashes=hashes,
        leakage=leakage,
        source=raw.source,
        licence=raw.licence,
        resized=raw.resized,
    )


def stratified_order(labels: Labels, rng: np.random.Generator) -> NDArray[np.int64]:
    """Returns a random order of the rows in which every prefix holds the classes nearly in proportion.

    Where the classes are equally large, each is within one image of its share. The k-th image of a class of m,
    shuffled, is placed at (k + 1/2) / m of the way; so the few images of a rare class go to the middle, which is
    training where both other splits are small.
    """
    shuffled = rng.permutation(len(labels))
    place = np.empty(len(labels))
    for label in np.unique(labels):
        rows = np.flatnonzero(labels[shuffled] == label)
        place[rows] = (np.arange(len(rows)) + 0.5) / len(rows)
    # Stable: images at the same place stay in shuffled order.
    return shuffled[np.argsort(place, kind="stable")]


def channel_statistics(images: Images) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Returns mean and standard deviation per channel on the 0..1 scale, exact from the histogram of grey levels.

    The deviation of a constant channel is given as 1, so that it can be divided by.
    """
    levels = np.arange(256) / 255
    counts = np.zeros((images.shape[1], 256), np.int64)
    for chunk in chunks(images):
        for channel, count in enumerate(counts):
            count += np.bincount(chunk[:, channel].ravel(), minlength=256)
    means, deviations = [], []
    for count in counts:
        share = count / count.sum()
        mean = float(share @ levels)
        means.append(mean)
        deviations.append(float(np.sqrt(share @ (levels - mean) ** 2)) if share.max() < 1 else 1.0)
    return tuple(means), tuple(deviations)
