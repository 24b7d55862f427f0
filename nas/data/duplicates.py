"""Exact duplicates, by SHA-256 of the decoded pixels.

Near duplicates (re-encoded, cropped, shifted) have other pixels and are not found.
"""

import hashlib
from collections import defaultdict
from collections.abc import Mapping

from nas.data.base import Duplicate, Leakage, Part, Split, SplitName

# An image is kept by the first of these that holds it: final figures must stay comparable, then choices honest.
_PROTECTED: tuple[SplitName, ...] = ("test", "validation", "train")


def separate(parts: Mapping[SplitName, Part]) -> tuple[dict[SplitName, Part], Leakage]:
    """Returns the splits without the pictures they share, and what was found.

    A picture in two splits stays in test before validation before train. Repeats within a split are counted and kept.

    Args:
        parts: images of one shape by split name.
    """
    separated: dict[SplitName, Part] = {}
    dropped: list[Duplicate] = []
    repeats: dict[SplitName, int] = {}
    holders: dict[bytes, tuple[SplitName, int]] = {}
    sightings: dict[bytes, list[tuple[SplitName, int]]] = defaultdict(list)
    for name in (name for name in _PROTECTED if name in parts):
        part, kept, repeats[name] = parts[name], [], 0
        for row, image in enumerate(part.split.images):
            digest = hashlib.sha256(image.tobytes()).digest()
            sightings[digest].append((name, row))
            holder, held = holders.setdefault(digest, (name, row))
            if holder == name:
                kept.append(row)
                repeats[name] += held != row
            else:
                same_label = parts[holder].split.labels[held] == part.split.labels[row]
                dropped.append(
                    Duplicate(name, part.places[row], holder, parts[holder].places[held], same_label=bool(same_label))
                )
        separated[name] = part if len(kept) == len(part.split) else part.take(kept)
    conflicts = tuple(
        tuple(parts[name].places[row] for name, row in seen)
        for seen in sightings.values()
        if len(seen) > 1 and len({int(parts[name].split.labels[row]) for name, row in seen}) > 1
    )
    return separated, Leakage(tuple(dropped), repeats, conflicts)


def split_digest(split: Split) -> str:
    """Returns the SHA-256 of a split's pixels, labels and order, in hexadecimal."""
    digest = hashlib.sha256(repr(split.images.shape).encode())
    digest.update(split.images.tobytes())
    digest.update(split.labels.astype("<i8").tobytes())
    return digest.hexdigest()
