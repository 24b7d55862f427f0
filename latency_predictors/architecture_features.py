"""Features of many architectures at once: physical ones of each block worked out once, choices read off.

Networks of a space share most of their blocks, and what a block costs depends on few choices: its own, those of its
stage, the channels that enter it, and the resolution. So architectures become integer codes, every distinct block is
lowered and measured once (`latency_predictors.features`), and a network's features are the sum of its blocks'.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain
from typing import Self

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

from latency_predictors.choice_features import choice_names
from latency_predictors.features import FEATURE_NAMES, layer_features
from search_spaces.architecture import Architecture, Choice
from search_spaces.errors import InputError
from search_spaces.space import SearchSpace

Floats = NDArray[np.float64]
Integers = NDArray[np.int64]
Spaces = Mapping[str, SearchSpace]
"""Search spaces by name; empty where integer vectors mean nothing to this product."""

_MOST_KEYS = 1 << 14  # numbers of a block's variants; where there could be more, those that occur are counted


def feature_columns(architectures: Sequence[Architecture], spaces: Spaces) -> tuple[str, ...]:
    """Returns the names of the columns that predictors of these architectures learn from.

    The physical features and each choice; where layers are not known, choices and, of few dimensions, pairs of them.
    """
    return (*FEATURE_NAMES, *choice_names(architectures, pairs=False)) if spaces else choice_names(architectures)


def architecture_features(architectures: Sequence[Architecture], columns: Sequence[str], spaces: Spaces) -> Floats:
    """Returns the features ``(n, d)`` of architectures, in columns of `feature_columns`.

    Args:
        architectures: n of them.
        columns: the physical features first, or only choices.
        spaces: of the architectures, where physical features are wanted.

    Raises:
        InputError: physical features are wanted and a space is not known or does not have the architecture.
    """
    found = np.empty((len(architectures), len(columns)))
    for rows, table in feature_tables(architectures, columns, spaces):
        found[rows] = table.rows(slice(None))
    return found


def feature_tables(
    architectures: Sequence[Architecture], columns: Sequence[str], spaces: Spaces
) -> Iterator[tuple[Integers, "FeatureTable"]]:
    """Yields, for each space among architectures, which of them it has and their features.

    The arguments are those of `architecture_features`, and so are the errors.
    """
    rows_of: dict[str, list[int]] = {}
    for row, architecture in enumerate(architectures):
        rows_of.setdefault(architecture.space, []).append(row)
    for name, rows in rows_of.items():
        yield np.array(rows), FeatureTable.of([architectures[row] for row in rows], columns, spaces.get(name))


@dataclass(frozen=True)
class FeatureTable:
    """Features of architectures of one space, ready to be worked out for some of the rows at a time.

    Attributes:
        blocks: ``(v, physical columns)``, of each variant of each block; stem and head count as a block.
        variants: ``(n, b)``, rows of ``blocks`` that an architecture is made of.
        codes: ``(n, dimensions)``, of the choices.
        choices: for each further column, the (dimension, code) that must all hold; None where none has the choice.
    """

    blocks: Floats
    variants: Integers
    codes: NDArray[np.int16]
    choices: tuple[tuple[tuple[int, int], ...] | None, ...]

    @classmethod
    def of(cls, architectures: Sequence[Architecture], columns: Sequence[str], space: SearchSpace | None) -> Self:
        """Returns the table of architectures of a space; the arguments are those of `architecture_features`."""
        physical = len(FEATURE_NAMES) if tuple(columns[: len(FEATURE_NAMES)]) == FEATURE_NAMES else 0
        if physical and space is None:
            raise InputError(
                f"the layers of space {architectures[0].space!r} are not known: give its file with --space"
            )
        codes = _Codes.of(architectures, space)
        if space and physical:
            codes.check(space, architectures)
            blocks, variants = _blocks(space, architectures, codes)
        else:
            blocks, variants = np.empty((0, 0)), np.empty((len(architectures), 0), dtype=np.int64)
        named = {
            f"{dimension}={value}": (codes.dimensions[dimension], code)
            for (dimension, value), code in codes.numbers.items()
        }
        choices = [tuple(named.get(part, (-1, -1)) for part in name.split("&")) for name in columns[physical:]]
        return cls(blocks, variants, codes.codes, tuple(None if (-1, -1) in c else c for c in choices))

    def rows(self, part: slice) -> Floats:
        """Returns the features ``(m, d)`` of some of the architectures."""
        variants, codes = self.variants[part], self.codes[part].T
        physical = self.blocks.shape[1]
        found = np.zeros((len(variants), physical + len(self.choices)))
        if physical:
            ends = np.arange(len(variants) + 1) * variants.shape[1]
            shape = len(variants), len(self.blocks)
            counts = sparse.csr_array((np.ones(variants.size), variants.ravel(), ends), shape=shape)
            found[:, :physical] = counts @ self.blocks
        for column, choices in enumerate(self.choices, start=physical):
            if choices is not None:
                found[:, column] = np.logical_and.reduce([codes[dimension] == code for dimension, code in choices])
        return found


@dataclass(frozen=True)
class _Codes:
    """Architectures of one space as integers.

    Attributes:
        dimensions: column of each dimension.
        numbers: code of each choice of each dimension.
        values: of each dimension, by code.
        codes: ``(n, dimensions)``; -1 where a dimension is switched off.
    """

    dimensions: dict[str, int]
    numbers: dict[tuple[str, Choice], int]
    values: list[list[Choice]]
    codes: NDArray[np.int16]

    @classmethod
    def of(cls, architectures: Sequence[Architecture], space: SearchSpace | None) -> Self:
        if space is None:
            known = sorted(set().union(*(a.values for a in architectures)), key=lambda pair: (pair[0], str(pair[1])))
        else:
            known = [(dimension.name, choice) for dimension in space.dimensions for choice in dimension.choices]
        dimensions: dict[str, int] = {}
        numbers: dict[tuple[str, Choice], int] = {}
        values: list[list[Choice]] = []
        for dimension, value in known:
            if dimensions.setdefault(dimension, len(dimensions)) == len(values):
                values.append([])
            numbers[dimension, value] = len(values[-1])
            values[-1].append(value)
        # One look-up for each choice: what follows is arithmetic on whole columns.
        place = {pair: index for index, pair in enumerate(known)}
        rows = [architecture.values for architecture in architectures]
        counts = np.fromiter(map(len, rows), dtype=np.int64, count=len(rows))
        held = map(place.__getitem__, chain.from_iterable(rows))
        try:
            places = np.fromiter(held, dtype=np.int32, count=int(counts.sum()))
        except KeyError as error:
            raise InputError(f"space {architectures[0].space!r} has no choice {error.args[0]}") from None
        codes = np.full((len(rows), len(dimensions)), -1, dtype=np.int16)
        columns = np.array([dimensions[dimension] for dimension, _ in known], dtype=np.int64)
        cells = np.repeat(np.arange(len(rows)) * len(dimensions), counts) + columns[places]
        codes.reshape(-1)[cells] = np.array(list(numbers.values()), dtype=np.int16)[places]
        return cls(dimensions, numbers, values, codes)

    def check(self, space: SearchSpace, architectures: Sequence[Architecture]) -> None:
        """Checks that each has a value for the dimensions that exist beside its other choices, and for no other.

        Raises:
            InputError: one does not.
        """
        for dimension in space.dimensions:
            there = self.codes[:, self.dimensions[dimension.name]] >= 0
            wanted = np.ones(len(there), dtype=np.bool_)
            for name, values in dimension.needs:
                wanted &= np.isin(self.codes[:, self.dimensions[name]], [self.numbers[name, v] for v in values])
            if (there != wanted).any():
                key = architectures[int(np.flatnonzero(there != wanted)[0])].key
                raise InputError(f"{key} is no network of space {space.name!r}: give its file with --space")

    def deep(self, depth: str, block: int) -> NDArray[np.bool_]:
        """Returns which architectures have at least so many blocks in the stage of a depth."""
        column = self.dimensions.get(depth)
        if column is None:
            return np.ones(len(self.codes), dtype=np.bool_)
        # The last one is for a depth that is missing.
        enough = np.array([*(int(value) >= block for value in self.values[column]), False])
        return np.asarray(enough[self.codes[:, column]])

    def key(self, dimensions: Sequence[str], there: NDArray[np.bool_]) -> Integers:
        """Returns a number ``(n,)`` for each row: 0 where nothing is there, else one for its values of dimensions."""
        found = np.ones(len(self.codes), dtype=np.int64)
        for dimension in dimensions:
            column = self.dimensions.get(dimension)
            if column is not None:
                found = found * (len(self.values[column]) + 1) + self.codes[:, column] + 1
        found[~there] = 0
        return found if found.max(initial=0) < _MOST_KEYS else np.unique(found, return_inverse=True)[1].reshape(-1)


def _blocks(space: SearchSpace, architectures: Sequence[Architecture], codes: _Codes) -> tuple[Floats, Integers]:
    """Returns `FeatureTable.blocks` and `FeatureTable.variants`."""
    keys: list[Integers] = []  # of every block
    first: list[int] = []  # of every stage, where its blocks begin
    for number, dimensions in enumerate(space.block_dimensions):
        first.append(len(keys))
        for block, own in enumerate(dimensions, start=1):
            keys.append(codes.key(own, codes.deep(f"stage{number}.depth", block)))
    starts = np.cumsum([0, *(int(key.max(initial=0)) + 1 for key in keys)])
    variants = np.stack(keys, axis=1) + starts[:-1]
    blocks, done = np.zeros((starts[-1], len(FEATURE_NAMES))), np.zeros(starts[-1], dtype=np.bool_)
    example = np.full(starts[-1], -1)
    example[variants] = np.arange(len(architectures))[:, None]
    for variant in np.flatnonzero(example >= 0):
        if done[variant]:
            continue
        stages, variants_there = space.stages(architectures[example[variant]]), variants[example[variant]]
        missing, image_size = ~done[variants_there], stages[0][0][0].in_size
        for begin, stage in zip(first, stages, strict=True):
            for place, layers in enumerate(stage, start=begin):
                if missing[place]:
                    blocks[variants_there[place]] = sum(layer_features(layer, image_size) for layer in layers)
        done[variants_there] = True
    return blocks, variants
