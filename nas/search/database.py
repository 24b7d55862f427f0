"""Where a ledger is kept: a SQLite file in the run directory, or a schema of a PostgreSQL database.

Both let one coordinator write, and any number of readers read beside it. In SQLite's write-ahead mode readers never
stop the writer; it needs a local disk, as SQLite does not support that mode on network file systems. What has to be on
the disk after each commit, and what shows damage, is the journal beside the file (`nas.search.journal`). PostgreSQL is
for searches that may be taken over by another machine.
"""

import hashlib
import json
import logging
import os
import socket
import sqlite3
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path
from typing import Any

from sqlalchemy import Connection, Engine, create_engine, event, func, inspect, select
from sqlalchemy.engine import URL, make_url
from sqlalchemy.exc import DBAPIError, OperationalError
from sqlalchemy.schema import CreateSchema

from nas.errors import InputError, RunError
from nas.search.journal import Journal
from nas.search.schema import LIFE
from search_spaces.file_lock import FileHeldError, hold

_logger = logging.getLogger(__name__)

_dumps = partial(json.dumps, allow_nan=False)

_MAX_IDENTIFIER_BYTES = 63  # of PostgreSQL
_CONNECT_SECONDS = 15
_PATIENCE_SECONDS = 120
"""How long a server that goes away in the middle of a search is waited for: restarts and failovers take less."""
# A coordinator whose machine vanished keeps the lock until the server notices: here after at most 30 + 3 x 10 seconds.
_KEEPALIVE = {"tcp_keepalives_idle": 30, "tcp_keepalives_interval": 10, "tcp_keepalives_count": 3}


def process_name() -> str:
    """Returns this process as the ledger names it: host and process number."""
    return f"{socket.gethostname()}:{os.getpid()}"


class Database(ABC):
    """The home of one ledger.

    Attributes:
        label: names it in messages; without a password.
        schema: that the tables are in, None for the only one.
        engine: connects to it.
        mend: what to do when it cannot be read.
    """

    label: str
    schema: str | None
    engine: Engine
    mend: str

    @abstractmethod
    def exists(self) -> bool:
        """Returns whether there may be tables; makes nothing."""

    @abstractmethod
    def prepare(self, connection: Connection) -> None:
        """Makes what the tables need to be in."""

    @abstractmethod
    @contextmanager
    def coordinated(self) -> Iterator[None]:
        """Makes this process the one coordinator; the lock ends with the process, however that ends.

        Raises:
            RunError: another process is the coordinator, or the database is damaged or cannot be reached.
        """

    @abstractmethod
    @contextmanager
    def transaction(self, recorded: Callable[[], None]) -> Iterator[Connection]:
        """Begins a transaction, and commits it where nothing is raised.

        Args:
            recorded: called before the commit, when all that the database does for it by itself is done.
        """

    def verify(self) -> None:  # noqa: B027  a server sees to that itself
        """Checks that what will be read is what was committed.

        Raises:
            RunError: it is damaged.
        """


class SqliteFile(Database):
    """A SQLite file, which need not exist yet; the lock and the journal are files beside it."""

    schema = None

    def __init__(self, path: Path) -> None:
        self.path = path
        self.label = str(path)
        self.mend = f"`nas doctor {path.parent}` tells more"
        self._journal = Journal(path)
        self._verified = False
        self.engine = create_engine(
            URL.create("sqlite", database=str(path)), json_serializer=_dumps, connect_args={"timeout": 60}
        )

        @event.listens_for(self.engine, "connect")
        def _configure(connection: Any, _: object) -> None:  # Any: the driver's own connection
            connection.isolation_level = None  # else Python begins transactions itself, and not before tables are made
            connection.execute("PRAGMA journal_mode=WAL")
            connection.execute("PRAGMA synchronous=NORMAL")  # the journal's line is on disk before the commit
            connection.execute("PRAGMA foreign_keys=ON")

        @event.listens_for(self.engine, "begin")
        def _begin(connection: Connection) -> None:
            connection.exec_driver_sql("BEGIN")

    def exists(self) -> bool:
        """As `Database.exists`."""
        return self.path.is_file() or self._journal.path.is_file()

    def prepare(self, connection: Connection) -> None:
        """Nothing is needed."""

    @contextmanager
    def coordinated(self) -> Iterator[None]:
        """As `Database.coordinated`."""
        self.path.parent.mkdir(parents=True, exist_ok=True)
        try:
            lock = hold(self.path.with_suffix(".lock"))
        except FileHeldError as held:
            raise _written_by(self.label, f"process {held.holder}") from None
        with lock:
            self._journal.recover()
            self._verified = True
            yield

    @contextmanager
    def transaction(self, recorded: Callable[[], None]) -> Iterator[Connection]:
        """As `Database.transaction`; the journal has it before the commit."""
        try:
            with self.engine.begin() as connection:
                driver = connection.connection.driver_connection
                assert isinstance(driver, sqlite3.Connection)
                with self._journal.recorded(driver):
                    yield connection
                recorded()
        except BaseException:
            self._journal.take_back()
            raise

    def verify(self) -> None:
        """As `Database.verify`; once, as a reader that stays open has seen that the past is whole."""
        if self._verified:
            return
        found = self._journal.examine()
        if found.state == "behind":
            self._journal.recover()  # the process that wrote the journal's last line was killed before it committed
        elif found.state != "good":
            raise RunError(found.problem)
        self._verified = True


class PostgresSchema(Database):
    """A schema of a PostgreSQL database, so that the runs of a team share one; the lock is an advisory lock.

    Args:
        url: ``postgresql+psycopg://USER@HOST/DATABASE``; libpq's environment and ``~/.pgpass`` fill in what it lacks.
        run: name of the run, which names the schema.

    Raises:
        InputError: the driver is not installed.
    """

    mend = "check that the server runs and that this user may read it"

    def __init__(self, url: str, run: str) -> None:
        schema = f"hwnas_{run}"
        if len(schema.encode()) > _MAX_IDENTIFIER_BYTES:
            schema = f"{schema[:50]}_{hashlib.sha256(run.encode()).hexdigest()[:12]}"
        self.schema: str = schema
        parsed = make_url(url)
        self.label = f"schema {schema} at {parsed.render_as_string(hide_password=True)}"
        try:
            self.engine = create_engine(
                parsed,
                json_serializer=_dumps,
                pool_pre_ping=True,  # the server may have been restarted between two evaluations
                connect_args={"connect_timeout": _CONNECT_SECONDS, "application_name": f"hwnas {process_name()}"},
                execution_options={"schema_translate_map": {None: self.schema}},
            )
        except ModuleNotFoundError as error:
            raise InputError(f"ledger: PostgreSQL needs {error.name}: pip install 'hwnas[postgres]'") from None

    def exists(self) -> bool:
        """As `Database.exists`."""
        return inspect(self.engine).has_table(LIFE.name, schema=self.schema)

    def prepare(self, connection: Connection) -> None:
        """Makes the schema; asking first, as making one needs a right that its users need not have."""
        if not inspect(connection).has_schema(self.schema):
            connection.execute(CreateSchema(self.schema))

    @contextmanager
    def transaction(self, recorded: Callable[[], None]) -> Iterator[Connection]:
        """As `Database.transaction`; waits for a server that is away before, never tries again what may be done."""
        with self._connected() as connection, connection.begin():
            yield connection
            recorded()

    def _connected(self) -> Connection:
        end_s, told_so = time.monotonic() + _PATIENCE_SECONDS, False
        while True:
            try:
                return self.engine.connect()
            except OperationalError as error:
                if time.monotonic() > end_s:
                    raise
                if not told_so:
                    _logger.warning(
                        "%s cannot be reached (%s): trying for %d s", self.label, told(error), _PATIENCE_SECONDS
                    )
                told_so = True
                time.sleep(1)

    @contextmanager
    def coordinated(self) -> Iterator[None]:
        """As `Database.coordinated`; the lock ends with its connection too, so that transactions check their epoch."""
        try:
            connection = self._lock()
        except DBAPIError as error:
            raise RunError(f"{self.label} cannot be reached ({told(error)}): {self.mend}") from error
        try:
            yield
        finally:
            with suppress(DBAPIError):  # it may have died, and the lock with it
                connection.execute(select(func.pg_advisory_unlock_all()))
            connection.close()

    def _lock(self) -> Connection:
        """Returns a connection that holds the lock; the pool hands it to nobody else."""
        connection = self.engine.connect().execution_options(isolation_level="AUTOCOMMIT")
        try:
            for name, value in _KEEPALIVE.items():
                connection.exec_driver_sql(f"SET {name} = {value}")
            lock = func.pg_try_advisory_lock(func.hashtextextended(self.schema, 0))
            if connection.execute(select(lock)).scalar_one():
                return connection
            newest = select(LIFE.c.coordinator).order_by(LIFE.c.epoch.desc()).limit(1)
            holder = connection.execute(newest).scalar() if self.exists() else None
            raise _written_by(self.label, f"process {holder}" if holder else "another process")
        except BaseException:
            connection.close()
            raise


def _written_by(label: str, holder: str) -> RunError:
    return RunError(f"{label} is written by {holder}: wait until that search ends, or stop it first")


def told(error: DBAPIError) -> str:
    """Returns what a database says, on one line and without the values of the statement."""
    return " ".join(str(error.orig).split())
