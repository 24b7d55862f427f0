"""Tables that an audit found wrong: a file beside one, ``TABLE.quarantine.json``, and nothing learns from it."""

from datetime import datetime
from pathlib import Path
from typing import Literal

from search_spaces.checksum import read_json, write_json
from search_spaces.errors import InputError
from search_spaces.typed_yaml import FileModel, parse

SUFFIX = ".quarantine.json"


class SetQuarantine(FileModel):
    """Why a table is not to be learned from.

    Attributes:
        format: version of this file format.
        at: UTC.
        reason: one sentence.
        audited: rows measured again.
        contradicted: of them, the keys of those that were wrong.
    """

    format: Literal[1] = 1
    at: datetime
    reason: str
    audited: int
    contradicted: tuple[str, ...]


def quarantine(table: Path, mark: SetQuarantine) -> None:
    """Marks a table as not to be learned from."""
    write_json(_path(table), mark.model_dump(mode="json"))


def quarantine_of(table: Path) -> SetQuarantine | None:
    """Returns why a table is in quarantine; None where it is not.

    Raises:
        InputError: the mark is damaged.
    """
    path = _path(table)
    if not path.exists():
        return None
    try:
        return parse(SetQuarantine, read_json(path), str(path))
    except (OSError, ValueError) as error:
        raise InputError(f"{path} is damaged ({error}): audit {table} again, or lift the quarantine") from None


def list_quarantined(folder: Path) -> list[Path]:
    """Returns the tables of a folder and its sub-folders that are in quarantine."""
    return sorted(path.with_name(path.name.removesuffix(SUFFIX)) for path in folder.rglob(f"*{SUFFIX}"))


def lift_quarantine(table: Path) -> None:
    """Takes a table out of quarantine.

    Raises:
        InputError: it is in none.
    """
    try:
        _path(table).unlink()
    except FileNotFoundError:
        raise InputError(f"{table} is not in quarantine; `nas latency quarantine` lists what is") from None


def refuse_quarantined(table: Path) -> None:
    """Does nothing for a table that may be learned from.

    Raises:
        InputError: it is in quarantine.
    """
    mark = quarantine_of(table)
    if mark is not None:
        raise InputError(
            f"{table} is in quarantine since {mark.at:%Y-%m-%d} ({mark.reason}): leave it out, or mend it and lift the "
            f"quarantine with `nas latency quarantine {table} --lift`"
        )


def _path(table: Path) -> Path:
    return table.with_name(table.name + SUFFIX)
