"""Exact duplicates, by SHA-256 of the decoded pixels.

Near duplicates (re-encoded, cropped, shifted) have other pixels and are not found.
"""

import hashlib
from collections import defaultdict
from collections.abc import Mapping

import numpy as np

from nas.data.base import Duplicate, Leakage, Part, Split, SplitName
from nas.data.stored import chunks, image_digests

# An image is kept by the first of these that holds it: final figures must stay comparable, then choices honest.
_PROTECTED: tuple[SplitName, ...] = ("test", "validation", "train")


def separate(parts: Mapping[SplitName, Part]) -> tuple[dict[SplitName, Part], Leakage]:
    """Returns the splits without the pictures they share, and what was found.

    A picture in two splits stays in test before validation before train. Repeats within a split are counted and kept.

    Args:
        parts: images of one shape by split name.
    """
    names = [name for name in _PROTECTED if name in parts]
    starts = np.cumsum([0, *(len(parts[name].split) for name in names)])
    part_of = np.repeat(np.arange(len(names)), np.diff(starts))
    labels = np.concatenate([parts[name].split.labels for name in names])
    digests = np.concatenate([image_digests(parts[name].split.images) for name in names])
    _, first, picture = np.unique(digests, return_index=True, return_inverse=True)
    holder = first[picture]  # of each image, the first with its pixels, which is in the most protected split

    def where(image: np.intp) -> tuple[SplitName, str]:
        name = names[part_of[image]]
        return name, parts[name].places[image - starts[part_of[image]]]

    dropped = tuple(
        Duplicate(*where(image), *where(holder[image]), same_label=bool(labels[image] == labels[holder[image]]))
        for image in np.flatnonzero(part_of != part_of[holder])
    )
    repeated = (holder != np.arange(len(holder))) & (part_of == part_of[holder])
    separated: dict[SplitName, Part] = {}
    repeats: dict[SplitName, int] = {}
    for number, name in enumerate(names):
        here = slice(starts[number], starts[number + 1])
        kept = np.flatnonzero(part_of[holder[here]] == number)
        separated[name] = parts[name] if len(kept) == len(parts[name].split) else parts[name].take(kept)
        repeats[name] = int(repeated[here].sum())
    conflicting = np.isin(holder, holder[labels != labels[holder]])
    sightings: dict[int, list[str]] = defaultdict(list)
    for image in np.flatnonzero(conflicting):
        sightings[holder[image]].append(where(image)[1])
    return separated, Leakage(dropped, repeats, tuple(map(tuple, sightings.values())))


def split_digest(split: Split) -> str:
    """Returns the SHA-256 of a split's pixels, labels and order, in hexadecimal."""
    digest = hashlib.sha256(repr(split.images.shape).encode())
    for images in chunks(split.images):
        digest.update(images.tobytes())
    digest.update(split.labels.astype("<i8").tobytes())
    return digest.hexdigest()
