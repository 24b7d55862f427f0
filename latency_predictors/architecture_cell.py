"""What stands in the column ``arch`` of a measurement table, as an architecture."""

import json
from collections.abc import Mapping

from search_spaces.architecture import Architecture
from search_spaces.encodings import encoding, list_encodings
from search_spaces.errors import InputError
from search_spaces.published import list_published, published, published_as_shipped


class UnknownNetworkError(InputError):
    """The cell names a network that this product cannot build, or none; the rows beside it may be fine."""


def decode_architecture(text: str | None, space: str, image_size: int | None = None) -> Architecture:
    """Returns the architecture of a cell of ``arch``.

    An integer vector of an unknown encoding becomes an architecture with a dimension for each place (``place00``, ...).
    The name of a published network, or its JSON object (``family``, ``variant``, ``width``, ``resolution``), becomes
    the point of a shipped space that is the same network layer for layer, where there is one.

    Args:
        text: the cell.
        space: what it is written in: a public encoding, or any other name.
        image_size: side of the images in pixels, of a network that is named, where the table tells it.

    Raises:
        UnknownNetworkError: no cell, or a network by a name that no shipped space has it under.
        InputError: neither of these, nor a list of integers that the encoding has, nor an architecture of this product.
    """
    if text is None:
        raise UnknownNetworkError("it does not say its architecture")
    try:
        data = json.loads(text)
    except ValueError:
        data = text
    if isinstance(data, dict) and "values" in data:
        return Architecture.from_json(text)
    if space not in list_encodings() and isinstance(data, str | dict):
        return _named(data, image_size)
    if not isinstance(data, list) or not all(type(number) is int for number in data):
        raise InputError(f"an architecture must be a JSON list of integers, got {text[:80]!r}")
    if space in list_encodings():
        return encoding(space).decode(data)
    return Architecture(space, tuple((f"place{place:02}", number) for place, number in enumerate(data)))


def is_vector(architecture: Architecture) -> bool:
    """Returns whether an architecture is an integer vector of an unknown encoding (`decode_architecture`)."""
    return bool(architecture.values) and all(name.startswith("place") for name, _ in architecture.values)


def _named(data: str | Mapping[str, object], image_size: int | None) -> Architecture:
    name = data if isinstance(data, str) else _joined(data)
    stated = image_size if isinstance(data, str) else data.get("resolution")
    if name in list_published() and stated in {None, published(name).table.resolution[0]}:
        found = published_as_shipped(name)
        if found:
            return found
    raise UnknownNetworkError(f"no shipped space has its network, {str(data)[:80]!r}")


def _joined(data: Mapping[str, object]) -> str:
    """Returns the name of an object: efficientnet or efficientnet_lite, variant lite0, is ``efficientnet_lite0``."""
    variant = data.get("variant")
    family = str(data.get("family")).removesuffix("_lite" if str(variant).startswith("lite") else "")
    width = data.get("width")
    return "_".join(map(str, [family, *([variant] if variant else []), *([width] if width not in {None, 1.0} else [])]))
