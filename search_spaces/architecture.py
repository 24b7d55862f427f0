"""Architecture: one network of a search space as data, with a stable key and two codecs.

An `Architecture` is made by `SearchSpace.architecture` (or `sample`, `mutate`, ...), which drops every choice that a
shallower depth switches off; two spellings of the same network are therefore one value with one key.
"""

import hashlib
import json
import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Self

from search_spaces.errors import InputError

Choice = bool | int | float | str

# Dimension names and their short form: "stage2.block1.kernel" <-> "2.1k". `stem` is stage 0.
_LETTERS = {
    "resolution": "r",
    "width": "w",
    "channels": "c",
    "depth": "d",
    "kernel": "k",
    "expansion": "e",
    "squeeze_excite": "s",
    "activation": "a",
    "type": "t",
    "op": "o",
}
_WORDS = {letter: word for word, letter in _LETTERS.items()}
_TOKEN = re.compile(r"(?:(?P<stage>\d+)(?:\.(?P<block>\d+))?)?(?P<letter>[a-z])(?P<value>.+)")


@dataclass(frozen=True)
class Architecture:
    """A network of a space: the chosen value of each active dimension that has more than one choice.

    Attributes:
        space: name of the search space.
        values: (dimension name, chosen value), sorted by name.

    Example:
        >>> Architecture("tiny", (("resolution", 16), ("stage1.depth", 2))).text
        'tiny:r16,1d2'
    """

    space: str
    values: tuple[tuple[str, Choice], ...]

    def __post_init__(self) -> None:
        names = [name for name, _ in self.values]
        if names != sorted(set(names)):
            raise ValueError(f"dimension names must be sorted and unique, got {names}")

    def __getitem__(self, dimension: str) -> Choice:
        return self._mapping[dimension]

    def get(self, dimension: str, default: Choice) -> Choice:
        """Returns the chosen value, or ``default`` where the dimension is fixed or switched off."""
        return self._mapping.get(dimension, default)

    @cached_property
    def _mapping(self) -> dict[str, Choice]:
        return dict(self.values)

    @cached_property
    def key(self) -> str:
        """Stable identifier: the space's name and 12 hexadecimal digits of the SHA-256 of the JSON form."""
        return f"{self.space}-{hashlib.sha256(self.to_json().encode()).hexdigest()[:12]}"

    def to_json(self) -> str:
        """Returns the canonical JSON form: one line, sorted keys."""
        return json.dumps({"space": self.space, "values": self._mapping}, sort_keys=True, separators=(",", ":"))

    @classmethod
    def from_json(cls, text: str) -> Self:
        """Returns the architecture of a JSON form; `SearchSpace.contains` tells whether a space has it.

        Raises:
            InputError: the text is not a JSON form of an architecture.
        """
        try:
            data = json.loads(text)
            space, values = data["space"], data["values"]
            if not isinstance(space, str) or not isinstance(values, Mapping) or set(data) != {"space", "values"}:
                raise TypeError
            if not all(_is_choice(value) for value in values.values()):
                raise TypeError
        except (ValueError, KeyError, TypeError):
            raise InputError(f"not an architecture in JSON form: {text[:80]!r}") from None
        return cls(space, tuple(sorted(values.items())))

    @property
    def text(self) -> str:
        """The short form, ``tiny:r16,1d2,1.1k3``: stage, block, first letter of the dimension, value."""
        tokens = sorted(((_place(name), value) for name, value in self.values), key=lambda item: item[0])
        return f"{self.space}:" + ",".join(
            f"{_prefix(stage, block)}{_LETTERS[word]}{_format(value)}" for (stage, block, word), value in tokens
        )

    @classmethod
    def from_text(cls, text: str) -> Self:
        """Returns the architecture of a short form.

        Raises:
            InputError: a token is not stage, block, letter and value.
        """
        space, _, rest = text.partition(":")
        values: dict[str, Choice] = {}
        for token in filter(None, rest.split(",")):
            match = _TOKEN.fullmatch(token)
            if not match or match["letter"] not in _WORDS:
                raise InputError(f"not a token of an architecture: {token!r} in {text[:80]!r}; an example is '1.2k3'")
            name = _name(match["stage"], match["block"], _WORDS[match["letter"]])
            if name in values:
                raise InputError(f"{name} stands twice in {text[:80]!r}; keep one")
            values[name] = _parse(_WORDS[match["letter"]], match["value"])
        return cls(space, tuple(sorted(values.items())))


def _place(name: str) -> tuple[int, int, str]:
    """Splits a dimension name into (stage, block, word); -1 for the whole network, 0 for the stem or a whole stage."""
    *parts, word = name.split(".")
    stage, block = -1, 0
    for part in parts:
        if part == "stem":
            stage = 0
        elif part.startswith("stage"):
            stage = int(part.removeprefix("stage"))
        else:
            block = int(part.removeprefix("block"))
    return stage, block, word


def _prefix(stage: int, block: int) -> str:
    return "" if stage < 0 else f"{stage}.{block}" if block else f"{stage}"


def _name(stage: str | None, block: str | None, word: str) -> str:
    if stage is None:
        return word
    if stage == "0" and block is None:
        return f"stem.{word}"
    return f"stage{stage}.block{block}.{word}" if block else f"stage{stage}.{word}"


def _format(value: Choice) -> str:
    return str(int(value)) if isinstance(value, bool) else str(value)


def _parse(word: str, text: str) -> Choice:
    if word in {"activation", "type", "op"}:
        return text
    if word == "squeeze_excite" and text in {"0", "1"}:
        return text == "1"
    try:
        value = float(text) if "." in text or "e" in text else int(text)
        if not math.isfinite(value):
            raise ValueError
    except ValueError:
        raise InputError(f"the value of {word} must be a number, got {text!r}") from None
    return value


def _is_choice(value: object) -> bool:
    return isinstance(value, bool | int | str) or (isinstance(value, float) and math.isfinite(value))
