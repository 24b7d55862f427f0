"""Features of many architectures at once: physical ones of each block worked out once, choices read off.

Networks of a space share most of their blocks, and what a block costs depends on few choices: its own, those of its
stage, the channels that enter it, and the resolution. So architectures become integer codes, every distinct block is
lowered and measured once (`latency_predictors.features`), and a network's features are the sum of its blocks'.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Self

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

from latency_predictors.choice_features import choice_names
from latency_predictors.features import FEATURE_NAMES, layer_features, physical_places
from search_spaces.architecture import Architecture, Choice
from search_spaces.block_table import BlockTable, BlockValues
from search_spaces.choice_codes import ChoiceCodes, Codes
from search_spaces.errors import InputError
from search_spaces.space import SearchSpace

Floats = NDArray[np.float64]
Integers = NDArray[np.int64]
Spaces = Mapping[str, SearchSpace]
"""Search spaces by name; empty where integer vectors mean nothing to this product."""


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
        blocks: ``(v, physical columns)``, of each block that the space has told so far.
        variants: ``(n, b)``, rows of ``blocks`` that an architecture is made of; -1 where it has none.
        codes: ``(n, dimensions)``, of the choices.
        choices: of the further columns, by how many choices they name, k: their places ``(c,)``, the dimensions and the
            codes ``(c, k)`` that must all hold; a column that names an unknown choice is 0.
        width: of the table.
    """

    blocks: Floats
    variants: Integers
    codes: Codes
    choices: tuple[tuple[Integers, Integers, Codes], ...]
    width: int

    @classmethod
    def of(cls, architectures: Sequence[Architecture], columns: Sequence[str], space: SearchSpace | None) -> Self:
        """Returns the table of architectures of a space; the arguments are those of `architecture_features`."""
        physical = physical_places(columns)
        if physical and space is None:
            raise InputError(
                f"the layers of space {architectures[0].space!r} are not known: give its file with --space"
            )
        known = space.codes if space else ChoiceCodes(_occurring(architectures))
        try:
            codes = known.of(architectures)
        except KeyError as error:
            raise InputError(f"space {architectures[0].space!r} has no choice {error.args[0]}") from None
        if space and physical:
            _check(space, codes, architectures)
            variants = space.blocks.rows(codes)
            blocks = _of_blocks(space.blocks).all()[:, physical]
        else:
            blocks, variants = np.empty((0, 0)), np.empty((len(architectures), 0), dtype=np.int64)
        return cls(blocks, variants, codes, _choices(known, tuple(columns)), len(columns))

    def rows(self, part: slice) -> Floats:
        """Returns the features ``(m, d)`` of some of the architectures."""
        variants, codes = self.variants[part], self.codes[part]
        found = np.zeros((len(variants), self.width))
        if self.blocks.size:
            there = variants >= 0
            ends = np.append(0, there.sum(1).cumsum())
            shape = len(variants), len(self.blocks)
            counts = sparse.csr_array((np.ones(ends[-1]), variants[there], ends), shape=shape)
            found[:, : self.blocks.shape[1]] = counts @ self.blocks
        for places, dimensions, wanted in self.choices:
            found[:, places] = (codes[:, dimensions] == wanted).all(axis=2)
        return found


@lru_cache(maxsize=16)
def _choices(known: ChoiceCodes, columns: tuple[str, ...]) -> tuple[tuple[Integers, Integers, Codes], ...]:
    """Returns `FeatureTable.choices` of the columns; physical ones name none."""
    numbers = {
        f"{dimension}={choice}": (known.columns[dimension], code)
        for dimension, own in known.choices.items()
        for code, choice in enumerate(own)
    }
    places: dict[int, list[int]] = {}
    parts: dict[int, list[list[tuple[int, int]]]] = {}
    for place, name in enumerate(columns):
        named = name.split("&")
        if numbers.keys() >= set(named):
            places.setdefault(len(named), []).append(place)
            parts.setdefault(len(named), []).append([numbers[part] for part in named])
    return tuple((np.array(places[k]), *np.moveaxis(np.array(parts[k]), 2, 0)) for k in places)


def _occurring(architectures: Sequence[Architecture]) -> dict[str, list[Choice]]:
    """Returns the choices that architectures of an unknown space have in each dimension."""
    choices: dict[str, list[Choice]] = {}
    for dimension, choice in set().union(*(architecture.values for architecture in architectures)):
        choices.setdefault(dimension, []).append(choice)
    return choices


def _check(space: SearchSpace, codes: Codes, architectures: Sequence[Architecture]) -> None:
    """Checks that each has a value for the dimensions that exist beside its other choices, and for no other.

    Raises:
        InputError: one does not.
    """
    wanted: dict[tuple[object, ...], NDArray[np.bool_]] = {}  # by needs: most dimensions share theirs
    for dimension, there in zip(space.dimensions, codes.T >= 0, strict=True):
        if dimension.needs not in wanted:
            met = [space.codes.one_of(codes, name, values) for name, values in dimension.needs]
            wanted[dimension.needs] = np.logical_and.reduce([np.ones(len(codes), dtype=np.bool_), *met])
        wrong = there != wanted[dimension.needs]
        if wrong.any():
            key = architectures[int(wrong.argmax())].key
            raise InputError(f"{key} is no network of space {space.name!r}: give its file with --space")


@lru_cache(maxsize=8)
def _of_blocks(table: BlockTable) -> BlockValues:
    """Returns the features of a space's blocks, kept from one call to the next."""
    none = np.zeros(len(FEATURE_NAMES))
    return BlockValues(table, lambda block, side: sum((layer_features(layer, side) for layer in block), none))
