import json
import random
from pathlib import Path

import pytest

from search_spaces.checksum import BLANK, ChecksumError, read_json, verify_checksum, with_checksum, write_json


def test_json_comes_back_as_it_was_written_and_stays_plain_json(tmp_path: Path) -> None:
    content = {"format": 1, "values": [0.1, None, "ü"], "nested": {"a": 1}}
    write_json(tmp_path / "a.json", content)
    assert read_json(tmp_path / "a.json") == content
    assert json.loads((tmp_path / "a.json").read_text())["checksum"].startswith("hwnas-sha256:")


def test_every_flipped_bit_and_every_cut_is_noticed(tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    write_json(path, {"format": 1, "values": [1, 2, 3]})
    whole = path.read_bytes()
    for place in range(len(whole)):
        flipped = bytearray(whole)
        flipped[place] ^= 1 << random.Random(place).randrange(8)
        for damaged in (bytes(flipped), whole[:place]):
            path.write_bytes(damaged)
            with pytest.raises(ChecksumError):
                read_json(path)


@pytest.mark.parametrize("damage", [lambda data: data + b"\n", lambda data: data.replace(b'"b": 2', b'"b": 3')])
def test_an_edit_is_noticed(tmp_path: Path, damage) -> None:
    write_json(tmp_path / "a.json", {"a": 1, "b": 2})
    (tmp_path / "a.json").write_bytes(damage((tmp_path / "a.json").read_bytes()))
    with pytest.raises(ChecksumError, match="does not have the SHA-256 that it states"):
        read_json(tmp_path / "a.json")


def test_a_file_without_a_checksum_is_refused(tmp_path: Path) -> None:
    (tmp_path / "a.json").write_text('{"a": 1}')
    with pytest.raises(ChecksumError, match="it has no checksum"):
        read_json(tmp_path / "a.json")


def test_binary_data_keep_everything_but_the_blank() -> None:
    data = with_checksum(b"\x00\xff" + BLANK.encode() + b"\xfe")
    verify_checksum(data)
    assert (data[:2], data[-1:], len(data)) == (b"\x00\xff", b"\xfe", 3 + len(BLANK))


@pytest.mark.parametrize("data", [b"", BLANK.encode() * 2])
def test_data_need_exactly_one_place_for_their_checksum(data: bytes) -> None:
    with pytest.raises(ValueError, match="must stand in the data once"):
        with_checksum(data)


def test_what_json_cannot_say_is_not_written(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="not JSON compliant"):
        write_json(tmp_path / "a.json", {"a": float("nan")})
    assert list(tmp_path.iterdir()) == []
