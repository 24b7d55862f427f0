"""Columns for architectures whose layers are not known: indicators of their choices, and of pairs where they are few.

A column's name says all about it: ``place03=2`` is 1 where the dimension ``place03`` has the value 2, and
``place00=1&place03=2`` where both hold. Names are saved with a predictor, so the columns can be worked out again
(`latency_predictors.architecture_features`).
"""

from collections.abc import Sequence
from itertools import combinations

from search_spaces.architecture import Architecture

MOST_FOR_PAIRS = 8
"""Dimensions; with more, pairs outnumber any measurements."""


def choice_names(architectures: Sequence[Architecture], *, pairs: bool = True) -> tuple[str, ...]:
    """Returns the names of the columns that tell these architectures apart.

    Args:
        architectures: of one space.
        pairs: whether pairs of choices have columns too, where there are few dimensions.
    """
    choices: dict[str, set[str]] = {}
    for dimension, value in set().union(*(architecture.values for architecture in architectures)):
        choices.setdefault(dimension, set()).add(f"{dimension}={value}")
    single = {dimension: sorted(names) for dimension, names in sorted(choices.items())}
    names = [name for group in single.values() for name in group]
    if pairs and len(single) <= MOST_FOR_PAIRS:
        both = combinations(single.values(), 2)
        names += [f"{one}&{other}" for ones, others in both for one in ones for other in others]
    return tuple(names)
