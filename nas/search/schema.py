"""The tables of the ledger, and how its SQLite file is opened.

========= =============================================================================================
run       one row: format version and what makes results comparable (space, objectives, seed, ...)
candidate unique per architecture and fidelity: its costs, and its state
proposal  one row per question to the sampler, in order: what it proposed, and the state it keeps in storage
attempt   every evaluation started: by whom, when, how it ended
result    one row per evaluated candidate (primary key); the first commit wins
========= =============================================================================================

Nothing here is known to SQLite only, but `sqlite_engine`. Its write-ahead log with ``synchronous=FULL`` survives a
power cut after each commit with one fsync, and readers never stop the writer; it needs a local disk, as SQLite does
not support that log on network file systems.
"""

import json
from functools import partial
from pathlib import Path
from typing import Any

from sqlalchemy import (
    JSON,
    Column,
    Engine,
    Float,
    ForeignKey,
    Integer,
    MetaData,
    String,
    Table,
    Text,
    UniqueConstraint,
    create_engine,
    event,
)
from sqlalchemy.engine import URL

METADATA = MetaData()
RUN = Table(
    "run",
    METADATA,
    Column("id", Integer, primary_key=True, autoincrement=False),
    Column("format", Integer, nullable=False),
    Column("identity", JSON, nullable=False),
    Column("validation_images", Integer),
    Column("started_unix_s", Float, nullable=False),
)
CANDIDATE = Table(
    "candidate",
    METADATA,
    Column("number", Integer, primary_key=True, autoincrement=False),
    Column("key", String(200), nullable=False),
    Column("fidelity", String(40), nullable=False),
    Column("architecture", Text, nullable=False),
    Column("costs", JSON, nullable=False),
    Column("state", String(20), nullable=False),
    UniqueConstraint("key", "fidelity"),
)
PROPOSAL = Table(
    "proposal",
    METADATA,
    Column("number", Integer, primary_key=True, autoincrement=False),
    Column("candidate", Integer, ForeignKey("candidate.number"), nullable=False),
    Column("parameters", JSON, nullable=False),
    Column("sampler_state", JSON, nullable=False),
)
ATTEMPT = Table(
    "attempt",
    METADATA,
    Column("id", Integer, primary_key=True),
    Column("candidate", Integer, ForeignKey("candidate.number"), nullable=False, index=True),
    Column("started_unix_s", Float, nullable=False),
    Column("finished_unix_s", Float),
    Column("ending", String(20)),
    Column("error_class", String(200)),
    Column("error_text", Text),
    Column("worker", String(200)),
)
RESULT = Table(
    "result",
    METADATA,
    Column("candidate", Integer, ForeignKey("candidate.number"), primary_key=True, autoincrement=False),
    Column("attempt", Integer, ForeignKey("attempt.id"), nullable=False),
    Column("metrics", JSON, nullable=False),
)


def sqlite_engine(path: Path) -> Engine:
    """Returns the engine of a file, which need not exist yet."""
    dumps = partial(json.dumps, allow_nan=False)
    engine = create_engine(
        URL.create("sqlite", database=str(path)), json_serializer=dumps, connect_args={"timeout": 60}
    )

    @event.listens_for(engine, "connect")
    def _configure(connection: Any, _: object) -> None:  # Any: the driver's own connection
        connection.execute("PRAGMA journal_mode=WAL")
        connection.execute("PRAGMA synchronous=FULL")
        connection.execute("PRAGMA foreign_keys=ON")

    return engine
