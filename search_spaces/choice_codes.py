"""ChoiceCodes: many architectures as one array of integers, for arithmetic on whole columns."""

from collections.abc import Iterator, Mapping, Sequence
from itertools import chain

import numpy as np
from numpy.typing import NDArray

from search_spaces.architecture import Architecture, Choice

Codes = NDArray[np.int16]
"""``(n, d)``: place of each architecture's choice among those of each dimension; -1 where it is switched off."""


class ChoiceCodes:
    """The numbers of choices.

    Args:
        choices: of every dimension.

    Attributes:
        choices: of every dimension, in the order of their codes; the dimensions are the columns.
        columns: of the dimensions, by name.
    """

    def __init__(self, choices: Mapping[str, Sequence[Choice]]) -> None:
        self.choices = dict(choices)
        self.columns = {dimension: column for column, dimension in enumerate(choices)}
        pairs = [(dimension, choice) for dimension, own in choices.items() for choice in own]
        self._places = {pair: place for place, pair in enumerate(pairs)}
        self._columns = np.array([self.columns[dimension] for dimension, _ in pairs], dtype=np.int64)
        self._codes = np.array([code for own in choices.values() for code in range(len(own))], dtype=np.int16)

    def of(self, architectures: Sequence[Architecture]) -> Codes:
        """Returns the codes of architectures.

        Raises:
            KeyError: of one that has another (dimension, choice).
        """
        # One look-up for each choice: what follows is arithmetic on whole columns.
        rows = [architecture.values for architecture in architectures]
        counts = np.fromiter(map(len, rows), dtype=np.int64, count=len(rows))
        held = map(self._places.__getitem__, chain.from_iterable(rows))
        places = np.fromiter(held, dtype=np.int32, count=int(counts.sum()))
        codes = np.full((len(rows), len(self.choices)), -1, dtype=np.int16)
        cells = np.repeat(np.arange(len(rows)) * codes.shape[1], counts) + self._columns[places]
        codes.reshape(-1)[cells] = self._codes[places]
        return codes

    def values(self, codes: Codes) -> Iterator[tuple[str, Choice]]:
        """Yields each dimension of one row that is not switched off, with its choice."""
        for (dimension, own), code in zip(self.choices.items(), codes.tolist(), strict=True):
            if code >= 0:
                yield dimension, own[code]

    def one_of(self, codes: Codes, dimension: str, values: Sequence[Choice]) -> NDArray[np.bool_]:
        """Returns ``(n,)``: which architectures have one of the values in a dimension."""
        # The last one is for where it is switched off.
        allowed = np.array([*(choice in values for choice in self.choices[dimension]), False])
        found: NDArray[np.bool_] = allowed[codes[:, self.columns[dimension]]]
        return found
