"""Columns for architectures whose layers are not known: indicators of their choices, and of pairs where they are few.

A column's name says all about it: ``place03=2`` is 1 where the dimension ``place03`` has the value 2, and
``place00=1&place03=2`` where both hold. Names are saved with a predictor, so the columns can be worked out again.
"""

from collections.abc import Sequence
from itertools import combinations

import numpy as np
from numpy.typing import NDArray

from search_spaces.architecture import Architecture

Floats = NDArray[np.float64]

MOST_FOR_PAIRS = 8
"""Dimensions; with more, pairs outnumber any measurements."""


def choice_names(architectures: Sequence[Architecture]) -> tuple[str, ...]:
    """Returns the names of the columns that tell these architectures apart."""
    choices: dict[str, set[str]] = {}
    for architecture in architectures:
        for dimension, value in architecture.values:
            choices.setdefault(dimension, set()).add(f"{dimension}={value}")
    single = {dimension: sorted(names) for dimension, names in sorted(choices.items())}
    names = [name for group in single.values() for name in group]
    if len(single) <= MOST_FOR_PAIRS:
        pairs = combinations(single.values(), 2)
        names += [f"{one}&{other}" for ones, others in pairs for one in ones for other in others]
    return tuple(names)


def choice_features(architectures: Sequence[Architecture], names: Sequence[str]) -> Floats:
    """Returns the columns ``(n, d)`` of the names; a choice that no name has leaves its columns 0."""
    parts = sorted({part for name in names for part in name.split("&")})
    place = {part: index for index, part in enumerate(parts)}
    holds = np.zeros((len(architectures), len(parts)))
    for row, architecture in enumerate(architectures):
        for dimension, value in architecture.values:
            index = place.get(f"{dimension}={value}")
            if index is not None:
                holds[row, index] = 1
    columns = [holds[:, [place[part] for part in name.split("&")]].prod(axis=1) for name in names]
    return np.stack(columns, axis=1) if columns else np.empty((len(architectures), 0))
