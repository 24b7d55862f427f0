"""SearchSpace: the architectures that a YAML stage table allows."""

import dataclasses
import math
from collections.abc import Callable, Hashable, Iterator, Mapping
from dataclasses import dataclass
from difflib import get_close_matches
from functools import cached_property, lru_cache
from importlib.resources import files
from itertools import chain, product
from pathlib import Path
from typing import Self

import numpy as np
from numpy.typing import NDArray

from search_spaces.architecture import Architecture, Choice
from search_spaces.block_table import BlockTable
from search_spaces.choice_codes import ChoiceCodes
from search_spaces.errors import InputError
from search_spaces.layer import LayerSpec
from search_spaces.lowering import Block, Lowering, block_dimensions, shared_layers
from search_spaces.stage_blocks import Word, get_block
from search_spaces.stage_table import StageTable
from search_spaces.typed_yaml import parse, read_yaml

_ORDER: tuple[Word, ...] = ("squeeze_excite", "activation", "kernel", "type", "expansion")
_OF_A_BLOCK = {"kernel", "type", "expansion"}


@dataclass(frozen=True)
class Dimension:
    """A choice of the search.

    Attributes:
        name: ``resolution``, ``stage2.depth``, ``stage2.block1.kernel``, ...
        choices: at least two values, in the file's order; one where the table keys its only resolution.
        needs: (name of an earlier dimension, its values with which this one exists): a block's own choices exist only
            where the stage is deep enough and of a kind that reads them. Empty for one that always exists.
    """

    name: str
    choices: tuple[Choice, ...]
    needs: tuple[tuple[str, tuple[Choice, ...]], ...] = ()

    def exists(self, chosen: Mapping[str, Choice]) -> bool:
        """Returns whether the dimension exists beside what was chosen for the earlier ones."""
        for name, values in self.needs:  # noqa: SIM110  # a generator takes twice as long, and this runs very often
            if chosen[name] not in values:
                return False
        return True

    @cached_property
    def by_value(self) -> dict[tuple[bool, Choice], Choice]:
        """Each choice as the file spells it, by (whether it is a boolean, an equal value): 1.0 stands for 1."""
        return {(isinstance(choice, bool), choice): choice for choice in self.choices}


@dataclass(frozen=True)
class SearchSpace:
    """A set of architectures.

    Attributes:
        table: the stage table it was made from.

    Example:
        >>> space = load_space("tiny")
        >>> architecture = space.sample(np.random.default_rng(0))
        >>> space.architecture(dict(architecture.values)) == architecture
        True
    """

    table: StageTable

    @property
    def name(self) -> str:
        """The space's name, first part of every key."""
        return self.table.name

    def with_data(self, *, image_channels: int, classes: int) -> Self:
        """Returns the same space for a data set's images and classes; keys do not change."""
        update = {"image_channels": image_channels, "classes": classes}
        return dataclasses.replace(self, table=self.table.model_copy(update=update))

    @cached_property
    def dimensions(self) -> tuple[Dimension, ...]:
        """Every choice of the search, in the order of the network."""
        named = {"resolution"} if self.table.keyed_resolution else set()
        return tuple(one for one in self.all_dimensions() if len(one.choices) > 1 or one.name in named)

    def __getstate__(self) -> dict[str, StageTable]:
        return {"table": self.table}  # what was worked out stays behind

    @cached_property
    def codes(self) -> ChoiceCodes:
        """Numbers of all choices, to have many architectures as one array."""
        return ChoiceCodes({dimension.name: dimension.choices for dimension in self.dimensions})

    @cached_property
    def blocks(self) -> BlockTable:
        """The distinct blocks of the architectures that it was asked about, for sums over blocks."""

        def stages(values: Mapping[str, Choice]) -> tuple[tuple[Block, ...], ...]:
            return self.stages(Architecture(self.name, tuple(sorted(values.items()))))

        return BlockTable(self.codes, block_dimensions(self.table), stages)

    @cached_property
    def _stages(self) -> Callable[[Architecture], tuple[tuple[Block, ...], ...]]:
        return lru_cache(maxsize=4096)(Lowering(self.table).stages)

    @cached_property
    def _by_name(self) -> dict[str, Dimension]:
        return {dimension.name: dimension for dimension in self.dimensions}

    def all_dimensions(self) -> Iterator[Dimension]:
        """Yields every dimension, those with a single choice included."""
        table = self.table
        yield Dimension("resolution", table.resolution)
        yield Dimension("width", table.width)
        yield Dimension("stem.channels", table.stem.channels)
        for number, stage in enumerate(table.stages, start=1):
            name = f"stage{number}"
            yield Dimension(f"{name}.op", stage.op)
            yield Dimension(f"{name}.depth", stage.depth)
            yield Dimension(f"{name}.channels", stage.channels)
            own = []
            for word in _ORDER:
                readers = tuple(op for op in stage.op if word in get_block(op).reads)
                needs = ((f"{name}.op", readers),) if readers != stage.op else ()
                dimension = Dimension(f"{name}.{word}", getattr(stage, word), needs)
                if readers and stage.share == "block" and word in _OF_A_BLOCK:
                    own.append(dimension)
                elif readers:
                    yield dimension
            for block in range(1, max(stage.depth) + 1) if own else ():
                deep = tuple(depth for depth in stage.depth if depth >= block)
                condition = ((f"{name}.depth", deep),) if deep != stage.depth else ()
                for one in own:
                    own_word = one.name.rpartition(".")[2]
                    yield Dimension(f"{name}.block{block}.{own_word}", one.choices, (*one.needs, *condition))

    def architecture(self, values: Mapping[str, Choice]) -> Architecture:
        """Returns the canonical architecture of chosen values.

        Args:
            values: a value for every active dimension; values of switched-off dimensions are dropped.

        Raises:
            InputError: an unknown dimension, a missing one, or a value that is not a choice.
        """
        for name in values:
            if name not in self._by_name:
                close = get_close_matches(name, self._by_name, 1)
                hint = f"; did you mean {close[0]!r}?" if close else ""
                raise InputError(f"space {self.name!r} has no dimension {name!r}{hint}")
        chosen: dict[str, Choice] = {}
        for dimension in self.dimensions:
            if not dimension.exists(chosen):
                continue
            if dimension.name not in values:
                raise InputError(
                    f"space {self.name!r} needs a value for {dimension.name!r}: one of {dimension.choices}"
                )
            value = values[dimension.name]
            known = isinstance(value, Hashable)  # of a file, it can be anything
            choice = dimension.by_value.get((isinstance(value, bool), value)) if known else None
            if choice is None:
                choices = dimension.choices
                raise InputError(f"space {self.name!r}: {dimension.name} must be one of {choices}, got {value!r}")
            chosen[dimension.name] = choice
        return Architecture(self.name, tuple(sorted(chosen.items())))

    def contains(self, architecture: Architecture) -> bool:
        """Returns whether this is one of the space's canonical architectures."""
        if architecture.space != self.name:
            return False
        try:
            # By key: 1 and 1.0 are equal, but only one of them is how this space spells the choice.
            return self.architecture(dict(architecture.values)).key == architecture.key
        except InputError:
            return False

    def sample(self, rng: np.random.Generator) -> Architecture:
        """Returns an architecture with every dimension drawn uniformly (deep stages have more distinct networks)."""
        return self.architecture({d.name: d.choices[rng.integers(len(d.choices))] for d in self.dimensions})

    def smallest(self) -> Architecture:
        """Returns the architecture with the least value of every numeric dimension (the first of other dimensions)."""
        return self.architecture({d.name: _extreme(d, smallest=True) for d in self.dimensions})

    def largest(self) -> Architecture:
        """Returns the architecture with the greatest value of every numeric dimension (the last of other ones)."""
        return self.architecture({d.name: _extreme(d, smallest=False) for d in self.dimensions})

    def mutate(self, architecture: Architecture, rng: np.random.Generator, rate: float = 0.1) -> Architecture:
        """Returns a copy with each dimension redrawn with probability ``rate``; blocks that appear are drawn too."""
        values = dict(architecture.values)
        for dimension in self.dimensions:
            if dimension.name not in values or rng.random() < rate:
                values[dimension.name] = dimension.choices[rng.integers(len(dimension.choices))]
        return self.architecture(values)

    def neighbours(self, architecture: Architecture) -> list[Architecture]:
        """Returns the architectures one change away; blocks that appear take their first choice."""
        values = dict(architecture.values)
        found: dict[str, Architecture] = {}
        for dimension in self.dimensions:
            for choice in dimension.choices if dimension.name in values else ():
                changed = {d.name: d.choices[0] for d in self.dimensions} | values | {dimension.name: choice}
                neighbour = self.architecture(changed)
                found[neighbour.key] = neighbour
        found.pop(architecture.key, None)
        return list(found.values())

    def encode(self, architecture: Architecture) -> NDArray[np.float64]:
        """Returns a ``(d,)`` vector: one-hot per dimension, all zero where the dimension is switched off."""
        values = dict(architecture.values)
        return np.array(
            [float(d.name in values and _same(values[d.name], choice)) for d in self.dimensions for choice in d.choices]
        )

    @cached_property
    def size(self) -> int:
        """The exact number of distinct architectures."""
        groups: dict[str, list[Dimension]] = {}  # a dimension's needs are of its own stage
        for dimension in self.dimensions:
            groups.setdefault(dimension.name.partition(".")[0], []).append(dimension)
        total = 1
        for group in groups.values():
            asked = {name for dimension in group for name, _ in dimension.needs}
            deciding = [dimension for dimension in group if dimension.name in asked]
            others = [dimension for dimension in group if dimension.name not in asked]
            total *= sum(
                math.prod(len(d.choices) for d in others if d.exists(chosen))
                for values in product(*(d.choices for d in deciding))
                for chosen in [dict(zip((d.name for d in deciding), values, strict=True))]
            )
        return total

    def all(self) -> Iterator[Architecture]:
        """Yields every distinct architecture; for small spaces."""
        seen = set()
        for combination in product(*(d.choices for d in self.dimensions)):
            architecture = self.architecture(dict(zip((d.name for d in self.dimensions), combination, strict=True)))
            if architecture.key not in seen:
                seen.add(architecture.key)
                yield architecture

    def layers(self, architecture: Architecture) -> tuple[LayerSpec, ...]:
        """Returns the layers of an architecture of this space, in execution order."""
        return tuple(chain.from_iterable(chain.from_iterable(self._stages(architecture))))

    def stages(self, architecture: Architecture) -> tuple[tuple[Block, ...], ...]:
        """Returns the same layers by stage and block, the stem first and the head last.

        Equal stages and blocks are mostly one object, so that what is worked out of one can be kept.
        """
        return self._stages(architecture)

    @cached_property
    def shared_layers(self) -> dict[str, LayerSpec]:
        """The layers with weights of the whole space: for each name, the largest channels and kernel of any subnet.

        A supernet holds these weights; a subnet uses the leading channels and the central part of the kernel.
        """
        return shared_layers(self.table, self.layers(self.largest()))


def _same(value: Choice, choice: Choice) -> bool:
    return value == choice and isinstance(value, bool) == isinstance(choice, bool)


def _extreme(dimension: Dimension, *, smallest: bool) -> Choice:
    if isinstance(dimension.choices[0], str):
        return dimension.choices[0 if smallest else -1]
    return (min if smallest else max)(dimension.choices)


def list_spaces() -> list[str]:
    """Returns the names of the spaces that ship with the product."""
    return sorted(path.name.removesuffix(".yaml") for path in files("search_spaces").joinpath("spaces").iterdir())


def is_space_file(name_or_file: str) -> bool:
    """Returns whether this means the YAML file of a space, not a shipped name."""
    return name_or_file.endswith((".yaml", ".yml"))


def load_space(name_or_file: str) -> SearchSpace:
    """Returns the space of a shipped name or of a YAML file; both are read the same way.

    Raises:
        InputError: neither a shipped name nor a file; or the file breaks a rule (every rule broken is named).
    """
    if is_space_file(name_or_file):
        path = Path(name_or_file)
    elif name_or_file in list_spaces():
        path = Path(str(files("search_spaces").joinpath("spaces", f"{name_or_file}.yaml")))
    else:
        close = get_close_matches(name_or_file, list_spaces(), 1)
        hint = f"; did you mean {close[0]!r}?" if close else ""
        raise InputError(f"space must be one of {', '.join(list_spaces())} or a .yaml file, got {name_or_file!r}{hint}")
    return SearchSpace(parse(StageTable, read_yaml(path), str(path)))
