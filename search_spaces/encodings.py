"""The integer vectors of public data sets, to and from architectures of the shipped spaces.

Each number of a vector is one choice of the space, so an encoding is just the list of dimensions in vector order and
the number that stands for each choice.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache, cached_property

from search_spaces.architecture import Architecture, Choice
from search_spaces.errors import InputError
from search_spaces.space import SearchSpace, load_space

_FBNET_TYPES = ("k3_e1", "k3_e1_g2", "k3_e3", "k3_e6", "k5_e1", "k5_e1_g2", "k5_e3", "k5_e6", "skip")
"""Block types in the order of HW-NAS-Bench (arXiv:2103.10584), whose numbers HELP took over."""


@dataclass(frozen=True)
class Encoding:
    """How one public data set writes architectures of one space.

    Attributes:
        name: of the encoding, as in the ``space`` column of measurement tables.
        space: name of the shipped space it belongs to.
        dimensions: the space's dimension at each place of the vector.
        names: choices that are text, each written as its place here; numbers and flags stand for themselves.

    Example:
        >>> encoding("fbnet").decode([8] * 22).text[:20]
        'fbnet:1.1tskip,2.1ts'
    """

    name: str
    space: str
    dimensions: tuple[str, ...]
    names: tuple[str, ...] = ()

    @cached_property
    def search_space(self) -> SearchSpace:
        """The shipped space."""
        return load_space(self.space)

    @cached_property
    def _choices(self) -> dict[str, dict[int, Choice]]:
        """For each dimension, the choice that each number stands for."""
        return {d.name: {self._number(choice): choice for choice in d.choices} for d in self.search_space.dimensions}

    def _number(self, choice: Choice) -> int:
        return self.names.index(choice) if isinstance(choice, str) else int(choice)

    def decode(self, vector: Sequence[int]) -> Architecture:
        """Returns the architecture of a vector.

        Args:
            vector: one integer per dimension; 0 for a block beyond the depth of its stage.

        Raises:
            InputError: the length is wrong, a number stands for no choice, or a block beyond the depth is not 0.
        """
        if len(vector) != len(self.dimensions):
            raise InputError(f"a vector of {self.name!r} must have {len(self.dimensions)} integers, got {len(vector)}")
        values: dict[str, Choice] = {}
        for place, (dimension, number) in enumerate(zip(self.dimensions, vector, strict=True)):
            choices = self._choices[dimension]
            if number in choices:
                values[dimension] = choices[number]
            elif number != 0:
                raise InputError(
                    f"integer {place} of a vector of {self.name!r} ({dimension}) must be one of {sorted(choices)}, "
                    f"got {number}"
                )
        architecture = self.search_space.architecture(values)
        for place, (given, canonical) in enumerate(zip(vector, self.encode(architecture), strict=True)):
            if given != canonical:
                raise InputError(
                    f"integer {place} of a vector of {self.name!r} ({self.dimensions[place]}) must be {canonical}: the "
                    f"stage is shallower; got {given}"
                )
        return architecture

    def encode(self, architecture: Architecture) -> tuple[int, ...]:
        """Returns the vector of an architecture; `decode` returns the architecture again.

        Raises:
            InputError: the architecture belongs to another space.
        """
        if architecture.space != self.space:
            raise InputError(
                f"encoding {self.name!r} takes architectures of the space {self.space!r}, got {architecture.text!r}"
            )
        values = dict(architecture.values)
        return tuple(self._number(values[d]) if d in values else 0 for d in self.dimensions)


def _ofa_dimensions() -> tuple[str, ...]:
    stages = range(2, 7)
    own = [
        f"stage{stage}.block{block}.{word}"
        for word in ("kernel", "expansion")
        for stage in stages
        for block in range(1, 5)
    ]
    return (*own, *(f"stage{stage}.depth" for stage in stages), "resolution")


def _fbnet_dimensions() -> tuple[str, ...]:
    depths = (1, 4, 4, 4, 4, 4, 1)
    return tuple(f"stage{stage}.block{b}.type" for stage, depth in enumerate(depths, 1) for b in range(1, depth + 1))


_ENCODINGS = {
    item.name: item
    for item in (
        Encoding("ofa_mbv3", "mobilenet_v3", _ofa_dimensions()),
        Encoding(
            "mnasnet_anb",
            "efficientnet",
            tuple(
                f"stage{s}.{word}" for word in ("expansion", "kernel", "depth", "squeeze_excite") for s in range(1, 8)
            ),
        ),
        Encoding("fbnet", "fbnet", _fbnet_dimensions(), _FBNET_TYPES),
    )
}


def list_encodings() -> list[str]:
    """Returns the names of the public encodings."""
    return sorted(_ENCODINGS)


@cache
def encoding(name: str) -> Encoding:
    """Returns a public encoding: ``ofa_mbv3`` (46 integers), ``mnasnet_anb`` (28) or ``fbnet`` (22).

    Raises:
        InputError: the name is unknown.
    """
    if name not in _ENCODINGS:
        raise InputError(f"encoding must be one of {', '.join(list_encodings())}, got {name!r}")
    return _ENCODINGS[name]
