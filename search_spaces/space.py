"""SearchSpace: the architectures that a YAML stage table allows."""

import dataclasses
import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from difflib import get_close_matches
from functools import cached_property, lru_cache
from importlib.resources import files
from itertools import product
from pathlib import Path
from typing import Self

import numpy as np
from numpy.typing import NDArray

from search_spaces.architecture import Architecture, Choice
from search_spaces.errors import InputError
from search_spaces.layer import LayerSpec
from search_spaces.lowering import Blocks, build_layers
from search_spaces.stage_table import StageTable
from search_spaces.typed_yaml import parse, read_yaml


@dataclass(frozen=True)
class Dimension:
    """A choice of the search.

    Attributes:
        name: ``resolution``, ``stage2.depth``, ``stage2.block1.kernel``, ...
        choices: at least two values, in the file's order.
        depth: (name of the stage's depth, block number) for a dimension that exists only where the stage is at least
            that deep; None for one that always exists.
    """

    name: str
    choices: tuple[Choice, ...]
    depth: tuple[str, int] | None = None


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
        return tuple(dimension for dimension in self.all_dimensions() if len(dimension.choices) > 1)

    def __getstate__(self) -> dict[str, StageTable]:
        return {"table": self.table}  # what was worked out stays behind

    @cached_property
    def _layers(self) -> Callable[[Architecture], tuple[LayerSpec, ...]]:
        blocks: Blocks = {}
        return lru_cache(maxsize=4096)(lambda architecture: build_layers(self.table, architecture, blocks))

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
            own: dict[str, tuple[Choice, ...]] = {"kernel": stage.kernel}
            if stage.op == "typed_bottleneck":
                own = {"type": stage.type}
            elif stage.op != "conv":
                own["expansion"] = stage.expansion
            yield Dimension(f"stage{number}.depth", stage.depth)
            yield Dimension(f"stage{number}.channels", stage.channels)
            if stage.op == "inverted_bottleneck":
                yield Dimension(f"stage{number}.squeeze_excite", stage.squeeze_excite)
            yield Dimension(f"stage{number}.activation", stage.activation)
            if stage.share == "stage":
                yield from (Dimension(f"stage{number}.{word}", choices) for word, choices in own.items())
                continue
            for block in range(1, max(stage.depth) + 1):
                condition = (f"stage{number}.depth", block) if block > min(stage.depth) else None
                for word, choices in own.items():
                    yield Dimension(f"stage{number}.block{block}.{word}", choices, condition)

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
            if dimension.depth and int(chosen[dimension.depth[0]]) < dimension.depth[1]:
                continue
            if dimension.name not in values:
                raise InputError(
                    f"space {self.name!r} needs a value for {dimension.name!r}: one of {dimension.choices}"
                )
            chosen[dimension.name] = _choice(self.name, dimension, values[dimension.name])
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
        total = 1
        own: dict[str, dict[int, int]] = {}  # depth dimension -> block -> combinations of that block's own choices
        for dimension in self.dimensions:
            if dimension.depth:
                blocks = own.setdefault(dimension.depth[0], {})
                blocks[dimension.depth[1]] = blocks.get(dimension.depth[1], 1) * len(dimension.choices)
            elif not dimension.name.endswith(".depth"):
                total *= len(dimension.choices)
        for dimension in self.dimensions:
            if dimension.name.endswith(".depth"):
                blocks = own.get(dimension.name, {})
                total *= sum(
                    math.prod(count for block, count in blocks.items() if block <= int(depth))
                    for depth in dimension.choices
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
        return self._layers(architecture)

    @cached_property
    def shared_layers(self) -> dict[str, LayerSpec]:
        """The layers with weights of the whole space: for each name, the largest channels and kernel of any subnet.

        A supernet holds these weights; a subnet uses the leading channels and the central part of the kernel.
        """
        # A dimension changed alone shows each layer at its largest; only the convolution in the place of a skipped
        # block needs two: the skip, and channels that then differ.
        changes = [{dimension.name: choice} for dimension in self.dimensions for choice in dimension.choices]
        resized = [change for change in changes for name in change if name == "width" or name.endswith(".channels")]
        skipped = [change for change in changes if "skip" in change.values()]
        largest = {d.name: _extreme(d, smallest=False) for d in self.dimensions}
        variants = [{}, *changes, *(one | other for one, other in product(skipped, resized))]
        shared: dict[str, LayerSpec] = {}
        for variant in variants:
            for layer in self.layers(self.architecture(largest | variant)):
                if layer.op in {"conv", "squeeze_excite", "linear"}:
                    shared[layer.name] = _union(shared[layer.name], layer) if layer.name in shared else layer
        return shared


def _union(one: LayerSpec, other: LayerSpec) -> LayerSpec:
    bigger = {
        field: max(getattr(one, field), getattr(other, field))
        for field in ("in_channels", "out_channels", "kernel", "groups", "squeeze_channels")
    }
    return dataclasses.replace(one, **bigger)


def _same(value: Choice, choice: Choice) -> bool:
    return value == choice and isinstance(value, bool) == isinstance(choice, bool)


def _choice(space: str, dimension: Dimension, value: Choice) -> Choice:
    for choice in dimension.choices:
        if _same(value, choice):
            return choice
    raise InputError(f"space {space!r}: {dimension.name} must be one of {dimension.choices}, got {value!r}")


def _extreme(dimension: Dimension, *, smallest: bool) -> Choice:
    if isinstance(dimension.choices[0], str):
        return dimension.choices[0 if smallest else -1]
    return (min if smallest else max)(dimension.choices)


def list_spaces() -> list[str]:
    """Returns the names of the spaces that ship with the product."""
    return sorted(path.name.removesuffix(".yaml") for path in files("search_spaces").joinpath("spaces").iterdir())


def load_space(name_or_file: str) -> SearchSpace:
    """Returns the space of a shipped name or of a YAML file; both are read the same way.

    Raises:
        InputError: neither a shipped name nor a file; or the file breaks a rule (every rule broken is named).
    """
    if name_or_file.endswith((".yaml", ".yml")):
        path = Path(name_or_file)
    elif name_or_file in list_spaces():
        path = Path(str(files("search_spaces").joinpath("spaces", f"{name_or_file}.yaml")))
    else:
        close = get_close_matches(name_or_file, list_spaces(), 1)
        hint = f"; did you mean {close[0]!r}?" if close else ""
        raise InputError(f"space must be one of {', '.join(list_spaces())} or a .yaml file, got {name_or_file!r}{hint}")
    return SearchSpace(parse(StageTable, read_yaml(path), str(path)))
