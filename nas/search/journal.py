"""The journal of a SQLite ledger: every committed row once more, as text that is checked line by line.

SQLite's pages carry no checksums, so that a flipped bit inside a value would go unseen. Beside ``ledger.db``,
``ledger.journal`` holds a line for each transaction: its SHA-256 (chained to that of the line before), its number, and
the rows that it left, as JSON. The database counts the transactions that it holds, so that each of the two files shows
what the other one lost.

A line is on disk before its transaction commits. Where a process or a machine dies between the two, whoever opens the
ledger next commits the rows of the line (`Journal.recover`), so that SQLite itself need not wait for the disk. A line
that was cut off while it was written belongs to no commit, and goes.

Nothing here knows the tables; they need row ids (SQLite's default).
"""

import logging
import os
import shutil
import sqlite3
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Literal

from nas.errors import RunError
from nas.search.journal_text import Cell, JournalText, Rows, journal_line, read_journal
from search_spaces.atomic import sync_folder, write_bytes

_logger = logging.getLogger(__name__)

State = Literal["good", "behind", "database damaged", "journal damaged", "both damaged"]

_SCHEMA = "sqlite_schema"
_CHANGED = "hwnas_changed"
_PATIENCE_SECONDS = 2.0


@dataclass(frozen=True)
class Examination:
    """What a comparison of a ledger with its journal showed.

    Attributes:
        state: ``behind`` where the database lacks the journal's last transactions, which are whole.
        problem: in words; empty where all is good.
        redo: the rows that the database lacks.
        held: number of the last transaction in the database.
        written: number of the last transaction in the journal.
        whole_bytes: of the journal; what follows was cut off while it was written, and belongs to no commit.
    """

    state: State
    problem: str = ""
    redo: Rows = field(default_factory=dict)
    held: int = 0
    written: int = 0
    whole_bytes: int = 0


class Journal:
    """The journal of a ledger.

    Args:
        database: the SQLite file; the journal is beside it.
    """

    def __init__(self, database: Path) -> None:
        self.database = database
        self.path = database.with_suffix(".journal")
        self._changed: Rows = {}
        self._tail = (0, 0, b"")  # size, number and digest at the end of the file, as last seen
        self._before: tuple[int, int] | None = None  # size and number before the line of this transaction
        self._known: tuple[int, Mapping[str, tuple[str, ...]]] = (-1, {})  # version of the schema, and its tables

    @contextmanager
    def recorded(self, connection: sqlite3.Connection) -> Iterator[None]:
        """Writes what a transaction changes, as the last thing before its commit.

        Args:
            connection: at the start of the transaction.

        Raises:
            RunError: the journal cannot be written, or it is not that of the database.
        """
        self._changed.clear()
        self._before = None
        version = _number(connection, "schema_version")
        if version != self._known[0]:
            self._known = version, _tables(connection)
        watched = self._known[1]
        self._watch(connection, watched)
        yield
        if _number(connection, "schema_version") != version:  # tables made just now
            made = {key: row for key, row in _rows(connection).items() if key[0] not in watched}
            self._changed = made | self._changed  # the list of tables is the first of them
        if self._changed:
            self._append(connection, self._changed)

    def take_back(self) -> None:
        """Takes the line of a transaction whose commit has failed off again."""
        if self._before is None:
            return
        size, number = self._before
        try:
            with self._connected() as connection:
                connection.execute("BEGIN IMMEDIATE")  # a reader may be committing the line
                if _number(connection, "user_version") == number:
                    os.truncate(self.path, size)
        except (OSError, sqlite3.DatabaseError) as error:
            _logger.warning(
                "%s keeps a line that was not committed, and the next start commits it: %s", self.path, error
            )

    def recover(self) -> None:
        """Brings the database up to its journal, and takes off what was cut off while it was written.

        It is the database's writer meanwhile. Lines are written by its writer only, so that none is on its way.

        Raises:
            RunError: one of the two is damaged.
        """
        if not self.database.is_file() and not self.path.is_file():
            return
        with self._translated(), self._connected() as connection:
            connection.execute("PRAGMA journal_mode=WAL")
            connection.execute("BEGIN IMMEDIATE")
            found = self._compare(connection)
            if found.state not in ("good", "behind"):
                raise RunError(found.problem)
            if found.state == "behind":
                for key, row in found.redo.items():
                    _put(connection, *key, row)
                connection.execute(f"PRAGMA user_version = {found.written}")
                lacking = found.written - found.held
                _logger.info("%s lacked the last %d transactions of its journal; they are back", self.database, lacking)
            if self.path.is_file() and self.path.stat().st_size > found.whole_bytes:
                os.truncate(self.path, found.whole_bytes)
            connection.execute("COMMIT")

    def examine(self) -> Examination:
        """Returns what a comparison shows; works beside a running search."""
        if not self.path.is_file() and not self.database.is_file():
            return Examination("good")
        if not self.database.is_file():
            return self._broken_database("it is missing")
        end = time.monotonic() + _PATIENCE_SECONDS
        while True:
            expected = _last_number(self.path)
            with self._translated(), self._connected() as connection:
                connection.execute("BEGIN")
                found = self._compare(connection)
            if found.state != "behind":
                return found
            if found.held >= expected:  # a running search has written more in the meantime
                return replace(found, state="good", problem="", redo={})
            # A line is there a moment before its transaction.
            if found.held < expected - 1 or time.monotonic() > end:
                return found
            time.sleep(0.05)

    def rebuild(self, found: Examination) -> tuple[Path, ...]:
        """Makes the damaged one of the two again from the other; returns where the damaged files were kept.

        Raises:
            RunError: both are damaged.
        """
        stamp = time.strftime("%Y%m%dT%H%M%S", time.gmtime())
        if found.state == "both damaged":
            raise RunError(found.problem)
        kept = []
        if found.state == "journal damaged":
            if self.path.is_file():
                kept.append(damaged_name(self.path, stamp))
                shutil.copy2(self.path, kept[-1])
            with self._translated(), self._connected() as connection:
                connection.execute("BEGIN IMMEDIATE")
                number = max(1, _number(connection, "user_version"))
                write_bytes(self.path, journal_line(number, _rows(connection), b""))
                connection.execute(f"PRAGMA user_version = {number}")
                connection.execute("COMMIT")
        elif found.state == "database damaged":
            # The database last: as long as it is there, the next start sees that it is damaged.
            for suffix in ("-shm", "-wal", ""):
                file = self.database.with_name(self.database.name + suffix)
                if file.is_file():
                    kept.append(damaged_name(file, stamp))
                    os.replace(file, kept[-1])
        self.recover()
        return tuple(kept)

    @property
    def _doctor(self) -> str:
        return f"`nas doctor {self.database.parent} --repair`"

    @contextmanager
    def _connected(self) -> Iterator[sqlite3.Connection]:
        with closing(sqlite3.connect(self.database, timeout=60, isolation_level=None)) as connection:
            yield connection

    @contextmanager
    def _translated(self) -> Iterator[None]:
        try:
            yield
        except sqlite3.DatabaseError as error:
            if _is_damage(error):
                raise RunError(self._broken_database(str(error)).problem) from error
            raise RunError(f"{self.database} cannot be opened ({error}): mend this and try again") from error

    def _watch(self, connection: sqlite3.Connection, tables: Mapping[str, tuple[str, ...]]) -> None:
        """Makes triggers that tell every changed row, where this connection lacks them."""
        names = {name for (name,) in connection.execute("SELECT name FROM sqlite_temp_master WHERE type = 'trigger'")}
        if not names:
            connection.create_function(_CHANGED, -1, self._change)
        for table, columns in tables.items():
            for event, row in (("INSERT", "NEW"), ("UPDATE", "NEW"), ("DELETE", "OLD")):
                if f"hwnas {event} {table}" in names:
                    continue
                values = [f"'{table}'", f"{row}.rowid"]
                values += [f'{row}."{column}"' for column in columns] if row == "NEW" else []
                connection.execute(
                    f'CREATE TEMP TRIGGER "hwnas {event} {table}" AFTER {event} ON main."{table}" '
                    f"BEGIN SELECT {_CHANGED}({', '.join(values)}); END"
                )

    def _change(self, table: str, row_id: int, *values: Cell) -> None:
        self._changed[table, row_id] = values or None

    def _append(self, connection: sqlite3.Connection, rows: Rows) -> None:
        number = _number(connection, "user_version")
        try:
            with self.path.open("ab") as file:
                size, last, digest = self._tail
                if file.tell() != size or last != number:
                    # Somebody else has written, or a commit has failed after its line was written.
                    text = read_journal(self.path.read_bytes())
                    lines = [line for line in text.lines if line.number <= number]
                    last, digest = (lines[-1].number, lines[-1].digest) if lines else (0, b"")
                    size = lines[-1].end if lines else 0
                    if text.damage or last != number or text.last > number + 1:
                        raise RunError(
                            f"{self.path} is not the journal of {self.database}, which counts {number} transactions: "
                            f"look at both with `nas doctor {self.database.parent}`"
                        )
                    file.truncate(size)
                line = journal_line(number + 1, rows, digest)
                try:
                    file.write(line)
                    file.flush()
                    os.fsync(file.fileno())
                except OSError:
                    file.truncate(size)
                    raise
            if not size:
                sync_folder(self.path.parent)
        except OSError as error:
            raise RunError(
                f"{self.path} cannot be written ({error.strerror}): nothing committed is lost; mend this and start the "
                "same command again"
            ) from error
        connection.execute(f"PRAGMA user_version = {number + 1}")
        self._before = size, number
        self._tail = (size + len(line), number + 1, line[:64])

    def _compare(self, connection: sqlite3.Connection) -> Examination:
        """Compares within one transaction of the database, so that its rows and their number belong together."""
        try:
            check = connection.execute("PRAGMA integrity_check(1)").fetchone()[0]
            version, rows = _number(connection, "user_version"), _rows(connection)
        except (sqlite3.DatabaseError, TypeError) as error:
            if isinstance(error, sqlite3.DatabaseError) and not _is_damage(error):
                raise
            return self._broken_database(str(error))
        if check != "ok":
            return self._broken_database(" ".join(check.split()))
        if not self.path.is_file():
            return self._broken_journal("it is missing") if rows or version else Examination("good")
        text = read_journal(self.path.read_bytes())
        if text.damage:
            if not text.may_have_left(rows):
                return self._both()
            return self._broken_journal(text.damage)
        whole_bytes = text.lines[-1].end if text.lines else 0
        if version > text.last:
            if not text.torn and rows == text.rows(text.last):
                return self._broken_database("its count of transactions is wrong")
            if not text.may_have_left(rows):
                return self._both()
            return self._broken_journal(f"it has {text.last} of {version} transactions")
        if rows != text.rows(version):
            return self._broken_database("its rows are not those that were committed")
        if version == text.last:
            return Examination("good", "", {}, version, version, whole_bytes)
        redo: Rows = {}
        for line in text.lines:
            if line.number > version:
                redo.update(line.rows)
        problem = (
            f"{self.database} lacks the last {text.last - version} transactions of {self.path.name}: reading it, or "
            f"{self._doctor}, brings them back"
        )
        return Examination("behind", problem, redo, version, text.last, whole_bytes)

    def _broken_database(self, why: str) -> Examination:
        text = read_journal(self.path.read_bytes()) if self.path.is_file() else JournalText([])
        if text.damage or not text.lines:
            return self._both()
        problem = f"{self.database} is damaged ({why}): {self._doctor} rebuilds it from {self.path.name}"
        return Examination("database damaged", problem, {}, 0, text.last, text.lines[-1].end)

    def _broken_journal(self, why: str) -> Examination:
        problem = f"{self.path} is damaged ({why}): {self._doctor} writes it again from {self.database.name}"
        return Examination("journal damaged", problem)

    def _both(self) -> Examination:
        problem = f"{self.database} and {self.path.name} are both damaged: restore them from a copy of the run"
        return Examination("both damaged", problem)


def damaged_name(path: Path, stamp: str) -> Path:
    """Returns where a damaged file is kept; a hidden name would hide it from people."""
    return path.with_name(f"{path.name}.damaged-{stamp}")


def _last_number(path: Path) -> int:
    """Returns the number of the last whole line, 0 where there is none."""
    return read_journal(path.read_bytes()).last if path.is_file() else 0


def _number(connection: sqlite3.Connection, name: str) -> int:
    """Returns a number of the database's header.

    ``user_version`` is the application's own and here the number of the last transaction; ``schema_version`` grows
    whenever a table is made.
    """
    return int(connection.execute(f"PRAGMA {name}").fetchone()[0])


def _is_damage(error: sqlite3.DatabaseError) -> bool:
    """Returns whether an error tells of the file's content, not of the disk, rights or other processes."""
    code = getattr(error, "sqlite_errorcode", None)  # errors of Python's own have none
    elsewhere = {
        sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED, sqlite3.SQLITE_NOMEM, sqlite3.SQLITE_READONLY,
        sqlite3.SQLITE_IOERR, sqlite3.SQLITE_FULL, sqlite3.SQLITE_CANTOPEN,
    }  # fmt: skip
    return code is None or code == sqlite3.SQLITE_IOERR_SHORT_READ or code & 0xFF not in elsewhere


def _tables(connection: sqlite3.Connection) -> Mapping[str, tuple[str, ...]]:
    """Returns the columns of every table."""
    names = connection.execute(f"SELECT name FROM {_SCHEMA} WHERE type = 'table' AND name NOT LIKE 'sqlite_%'")
    return {name: _columns(connection, name) for (name,) in names.fetchall()}


def _columns(connection: sqlite3.Connection, table: str) -> tuple[str, ...]:
    return tuple(row[1] for row in connection.execute(f'PRAGMA table_info("{table}")'))


def _rows(connection: sqlite3.Connection) -> Rows:
    """Returns every row of every table, and of the list of tables itself."""
    schema = connection.execute(f"SELECT rowid, type, name, tbl_name, sql FROM {_SCHEMA}").fetchall()
    rows: Rows = {(_SCHEMA, row_id): values for row_id, *values in schema}
    for table in _tables(connection):
        rows.update(
            ((table, row_id), values) for row_id, *values in connection.execute(f'SELECT rowid, * FROM "{table}"')
        )
    return rows


def _put(connection: sqlite3.Connection, table: str, row_id: int, row: Sequence[Cell] | None) -> None:
    """Leaves a row as the journal has it."""
    if table == _SCHEMA:
        statement = None if row is None else row[3]
        if isinstance(statement, str):  # an index that comes with a table has none
            if not statement.upper().startswith(("CREATE TABLE", "CREATE INDEX", "CREATE UNIQUE INDEX")):
                raise RunError(f"a journal makes tables and indexes only, got {statement[:60]!r}")
            connection.execute(statement)
        return
    connection.execute(f'DELETE FROM "{table}" WHERE rowid = ?', [row_id])
    if row is not None:
        names = ", ".join(f'"{column}"' for column in _columns(connection, table))
        connection.execute(f'INSERT INTO "{table}" ({names}) VALUES ({", ".join("?" * len(row))})', list(row))
        connection.execute(f'UPDATE "{table}" SET rowid = ? WHERE rowid = last_insert_rowid()', [row_id])
