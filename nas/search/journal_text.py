"""The lines of a journal: one for each transaction, chained by their SHA-256."""

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass

Cell = str | int | float | None
Rows = dict[tuple[str, int], Sequence[Cell] | None]
"""Rows by table and row id; None for one that was deleted."""


@dataclass(frozen=True)
class Line:
    """A transaction.

    Attributes:
        number: counted from 1; a journal that was written again begins with a later one, which holds all before.
        rows: that it left.
        digest: of the line and, through it, of all before.
        end: bytes of the journal up to and with this line.
    """

    number: int
    rows: Rows
    digest: bytes
    end: int


@dataclass(frozen=True)
class JournalText:
    """The lines of a journal that are whole.

    Attributes:
        lines: in order.
        torn: whether the last line is not whole, as when a process died while writing it.
        damage: what is wrong before the last line; empty where nothing is.
        whole_before: how many of ``lines`` stand before the last damaged one.
    """

    lines: Sequence[Line]
    torn: bool = False
    damage: str = ""
    whole_before: int = 0

    @property
    def last(self) -> int:
        """Number of the last transaction, 0 where there is none."""
        return self.lines[-1].number if self.lines else 0

    def rows(self, until: int) -> Rows:
        """Returns the rows that the transactions up to a number left."""
        rows: Rows = {}
        for line in self.lines:
            if line.number <= until:
                rows.update(line.rows)
        return {key: row for key, row in rows.items() if row is not None}

    def may_have_left(self, rows: Rows) -> bool:
        """Returns whether rows may be those of this journal with the lines that are not whole.

        Each row of a whole line must be there, and as it was left where no other line may have changed it later.
        """
        if self.damage:
            later: Rows = {}
            for line in self.lines[self.whole_before :]:
                later.update(line.rows)
            if any(rows.get(key) != row for key, row in later.items()):
                return False
        return self.rows(self.last).keys() <= rows.keys()


def journal_line(number: int, rows: Rows, digest: bytes) -> bytes:
    """Returns the line of a transaction.

    Args:
        number: of the transaction.
        rows: that it left.
        digest: of the line before; empty for the first.
    """
    content = [[table, row_id, row] for (table, row_id), row in rows.items()]
    body = f"{number} {json.dumps(content, separators=(',', ':'), allow_nan=False)}".encode()
    return b"%s %s\n" % (_digest(digest, body), body)


def _digest(before: bytes, body: bytes) -> bytes:
    return hashlib.sha256(before + body).hexdigest().encode()


def read_journal(data: bytes) -> JournalText:
    """Returns the lines of a journal's bytes, whole or not."""
    lines: list[Line] = []
    pieces = data.split(b"\n")
    whole = pieces.pop() == b""  # a journal ends with the end of a line
    before, end, damage, whole_before = b"", 0, "", 0
    for place, piece in enumerate(pieces, start=1):
        end += len(piece) + 1
        stated, body = piece[:64], piece[65:]
        if piece[64:65] == b" " and stated == _digest(before, body):
            number, _, content = body.partition(b" ")
            rows = {(table, row_id): row for table, row_id, row in json.loads(content)}
            lines.append(Line(int(number), rows, stated, end))
        elif place == len(pieces) and whole:
            whole = False
        else:
            damage, whole_before = damage or f"its line {place} is not what was written", len(lines)
        before = stated
    return JournalText(lines, torn=not whole, damage=damage, whole_before=whole_before)
