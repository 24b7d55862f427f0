"""Files that carry the SHA-256 of their own bytes, so that any reader notices a changed, cut or appended byte.

The checksum is text that a format has room for (a JSON value, a YAML or HTML comment, metadata of safetensors and
Parquet, bytes after the end of a PNG), written in place of `BLANK`. It is that of the file with `BLANK` in its place.
A file without one is refused like one with a wrong one: where it stood is where the file was damaged.
"""

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from search_spaces.atomic import write_bytes

_MARK = b"hwnas-sha256:"
_DIGITS = 64
BLANK = _MARK.decode() + "0" * _DIGITS
"""What stands in a file's content before `with_checksum`."""

_KEY = "checksum"


class ChecksumError(ValueError):
    """The bytes are not those that were written; the text says how that is known."""


def with_checksum(data: bytes) -> bytes:
    """Returns the bytes of a file with their checksum in place of `BLANK`.

    Raises:
        ValueError: `BLANK` does not stand in the data exactly once.
    """
    if data.count(_MARK) != 1 or BLANK.encode() not in data:
        raise ValueError(f"{BLANK} must stand in the data once, got {data.count(_MARK)}")
    start = data.index(_MARK) + len(_MARK)
    return data[:start] + _digest(data, start) + data[start + _DIGITS :]


def verify_checksum(data: bytes) -> None:
    """Checks the bytes of a file that `with_checksum` made.

    Raises:
        ChecksumError: they are not those that were written.
    """
    if data.count(_MARK) != 1:
        raise ChecksumError("it has no checksum, so it was cut off, edited or not written by this version")
    start = data.index(_MARK) + len(_MARK)
    if data[start : start + _DIGITS] != _digest(data, start):
        raise ChecksumError("its content does not have the SHA-256 that it states")


def has_checksum(data: bytes) -> bool:
    """Returns whether the bytes state a checksum, right or wrong."""
    return _MARK in data


def write_json(path: Path, data: Mapping[str, object]) -> None:
    """Writes indented JSON with a checksum, as `write_bytes` does; NaN is refused because readers refuse it."""
    text = json.dumps({**data, _KEY: BLANK}, indent=2, allow_nan=False)
    write_bytes(path, with_checksum(f"{text}\n".encode()))


def read_json(path: Path) -> dict[str, Any]:  # Any: JSON as read
    """Returns what `write_json` wrote.

    Raises:
        OSError: the file cannot be read.
        ValueError: it is not the file that was written; the text says why, without its name.
    """
    data = path.read_bytes()
    verify_checksum(data)
    content = json.loads(data)
    if not isinstance(content, dict):
        raise ChecksumError("it holds no JSON object")
    content.pop(_KEY)
    return content


def _digest(data: bytes, start: int) -> bytes:
    digest = hashlib.sha256(memoryview(data)[:start])
    digest.update(b"0" * _DIGITS)
    digest.update(memoryview(data)[start + _DIGITS :])
    return digest.hexdigest().encode()
