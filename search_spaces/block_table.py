"""BlockTable: the distinct blocks of a space, and what they add up to in many networks at once.

Networks of a space share most of their blocks, and few choices decide a block: its own, those of its stage, the
channels that enter it, and the resolution. Each of these is a digit of the block's number, in a mixed radix: the
numbers of all blocks of many networks are a product of two matrices, and blocks of one number are equal.
"""

from collections.abc import Callable, Mapping, Sequence
from threading import Lock
from typing import Any

import numpy as np
from numpy.typing import NDArray

from search_spaces.architecture import Choice
from search_spaces.choice_codes import ChoiceCodes, Codes
from search_spaces.errors import InputError
from search_spaces.lowering import Block

Integers = NDArray[np.int64]

_NEW = -2  # in place of a row
_CHUNK = 4096  # networks whose numbers are worked out at once: they stay in the processor's cache
_Function = Callable[[Block, int], Sequence[float] | NDArray[np.float64]]


class BlockTable:
    """The distinct blocks of the networks that were asked about, each made once.

    Args:
        codes: of the space's choices.
        deciding: the dimensions that decide each block, by stage and block to the deepest (`block_dimensions`).
        stages: returns the layers of a network by stage and block, given its choices.

    Raises:
        InputError: there are too many ways to make a block.

    Attributes:
        blocks: each with the side of its network's image, in pixels.
    """

    def __init__(
        self,
        codes: ChoiceCodes,
        deciding: Sequence[Sequence[Sequence[str]]],
        stages: Callable[[Mapping[str, Choice]], Sequence[Sequence[Block]]],
    ) -> None:
        self.blocks: list[tuple[Block, int]] = []
        self._codes, self._stages = codes, stages
        self._first = np.cumsum([0, *map(len, deciding[:-1])]).tolist()  # of each stage, the place of its first block
        places = [(stage, number, own) for stage, all_ in enumerate(deciding) for number, own in enumerate(all_, 1)]
        radix = np.ones(len(places))
        self._weights = np.zeros((len(codes.choices), len(places)))
        # Of a column, and by its code, which blocks are not there.
        self._absent: list[tuple[int, NDArray[np.bool_]]] = []
        for (dimension, choices), weights in zip(codes.choices.items(), self._weights, strict=True):
            decides = np.array([dimension in own for _, _, own in places])
            weights[decides] = radix[decides]
            radix[decides] *= len(choices) + 1
            depths = [[number if dimension == f"stage{stage}.depth" else 0 for stage, number, _ in places]]
            if np.any(depths):
                self._absent.append((codes.columns[dimension], np.array(choices)[:, None] < depths))
        if radix.sum() > 2**53:  # as far as floats count
            raise InputError("the choices of the space allow a block in more than 2**53 ways: give it fewer choices")
        self._offsets = (radix.cumsum() - radix).astype(np.int64)  # blocks of different places are never equal
        # Numbers in ascending order, and their rows in `blocks`; -1 stands for what is not there.
        self._index = np.array([-1]), np.array([-1])
        self._lock = Lock()

    def rows(self, codes: Codes) -> Integers:
        """Returns ``(n, b)``: the rows of each network's blocks in `blocks`, in the order of the network.

        The columns are stages and blocks to the deepest; -1 where a network has none.

        Args:
            codes: ``(n, d)`` of canonical architectures of the space; n at least 1.
        """
        found = [self._some_rows(codes[at : at + _CHUNK]) for at in range(0, len(codes), _CHUNK)]
        return np.concatenate(found)

    def _some_rows(self, codes: Codes) -> Integers:
        numbers = ((codes + 1.0) @ self._weights).astype(np.int64) + self._offsets
        for column, absent in self._absent:
            numbers[absent[codes[:, column]]] = -1
        rows = self._known(numbers)
        new = np.flatnonzero(rows == _NEW)
        if len(new):
            with self._lock:
                self._add(codes, numbers, new)
            rows.flat[new] = self._known(numbers.flat[new])
        return rows

    def _known(self, numbers: Integers) -> Integers:
        known, rows = self._index
        places = np.minimum(np.searchsorted(known, numbers), len(known) - 1)
        return np.where(known[places] == numbers, rows[places], _NEW)

    def _add(self, codes: Codes, numbers: Integers, places: Integers) -> None:
        """Makes the blocks that are new at flat places among the numbers."""
        distinct, first = np.unique(numbers.flat[places], return_index=True)
        examples = places[first] // numbers.shape[1]
        still = self._known(distinct) == _NEW  # another thread may have been faster
        new = dict.fromkeys(distinct[still].tolist(), _NEW)
        for number, example in zip(list(new), examples[still].tolist(), strict=True):
            if new[number] == _NEW:
                stages = self._stages(dict(self._codes.values(codes[example])))
                own = numbers[example].tolist()
                for begin, stage in zip(self._first, stages, strict=True):
                    for found, block in zip(own[begin:], stage, strict=False):
                        if new.get(found) == _NEW:
                            new[found] = len(self.blocks)
                            self.blocks.append((block, stages[0][0][0].in_size))
        known, rows = self._index
        at = np.searchsorted(known, list(new))
        self._index = np.insert(known, at, list(new)), np.insert(rows, at, list(new.values()))


class BlockValues:
    """Numbers of each block of a table, each worked out once.

    Args:
        table: of the blocks.
        function: of a block and of the side of its network's image in pixels; returns ``(k,)`` integers, or floats.
    """

    def __init__(self, table: BlockTable, function: _Function) -> None:
        self._table, self._function = table, function
        self._values: NDArray[Any] | None = None  # integers or floats

    def all(self) -> NDArray[Any]:  # integers or floats
        """Returns ``(v, k)``, of every block that the table has."""
        known = self._values
        new = [self._function(*block) for block in self._table.blocks[0 if known is None else len(known) :]]
        if new:
            known = self._values = np.array(new) if known is None else np.concatenate([known, new])
        return np.empty((0, 0)) if known is None else known

    def sums(self, codes: Codes) -> NDArray[Any]:  # integers or floats
        """Returns ``(n, k)``: the sums over the blocks of each network.

        Args:
            codes: ``(n, d)`` of canonical architectures of the table's space; n at least 1.
        """
        rows = self._table.rows(codes)
        there = rows >= 0
        counts = there.sum(1)
        found: NDArray[Any] = np.add.reduceat(self.all()[rows[there]], counts.cumsum() - counts)
        return found
