"""Damage as disks, crashes and people do it."""

import random
from collections.abc import Callable, Mapping


def _cut(data: bytearray, chance: random.Random) -> None:
    del data[chance.randrange(len(data)) :]


def _tear(data: bytearray, chance: random.Random) -> None:
    del data[-chance.randrange(1, min(64, len(data)) + 1) :]


def _empty(data: bytearray, _: random.Random) -> None:
    data.clear()


def _flip_a_bit(data: bytearray, chance: random.Random) -> None:
    data[chance.randrange(len(data))] ^= 1 << chance.randrange(8)


def _change_a_byte(data: bytearray, chance: random.Random) -> None:
    data[chance.randrange(len(data))] ^= chance.randrange(1, 256)


def _zero_a_block(data: bytearray, chance: random.Random) -> None:
    start = chance.randrange(len(data))
    end = min(len(data), start + 512)
    data[start:end] = bytes(end - start)


def _swap_blocks(data: bytearray, chance: random.Random) -> None:
    size = min(chance.choice((32, 512, 4096)), len(data) // 3)
    start = chance.randrange(len(data) - 2 * size + 1)
    middle, end = start + size, start + 2 * size
    data[start:end] = data[middle:end] + data[start:middle]


DAMAGE: Mapping[str, Callable[[bytearray, random.Random], None]] = {
    "cut": _cut,
    "torn": _tear,
    "emptied": _empty,
    "bit flipped": _flip_a_bit,
    "byte changed": _change_a_byte,
    "block zeroed": _zero_a_block,
    "blocks swapped": _swap_blocks,
}


def damaged(data: bytes, name: str, chance: random.Random) -> bytes:
    """Returns other bytes than these, damaged in the named way."""
    while True:
        changed = bytearray(data)
        DAMAGE[name](changed, chance)
        if changed != data:
            return bytes(changed)
