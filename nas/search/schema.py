"""The tables of the ledger.

========= =============================================================================================
run       one row: format version and what makes results comparable (space, objectives, seed, ...)
life      one row per start of the search: its epoch, its coordinator, when it was last seen, how it ended
candidate unique per architecture and fidelity: its costs, and its state
proposal  one row per question to the sampler, in order: what it proposed, and the state it keeps in storage
attempt   every evaluation started: by whom, when, how it ended, and how many outcomes came after that
result    one row per evaluated candidate (primary key); the first commit wins
========= =============================================================================================

Nothing here is known to one database only; those are in `database`.
"""

from sqlalchemy import JSON, Column, Float, ForeignKey, Integer, MetaData, String, Table, Text, UniqueConstraint

FORMAT = 2

METADATA = MetaData()
RUN = Table(
    "run",
    METADATA,
    Column("id", Integer, primary_key=True, autoincrement=False),
    Column("format", Integer, nullable=False),
    Column("identity", JSON, nullable=False),
    Column("validation_images", Integer),
    Column("warm_start", JSON, nullable=False),
    Column("started_unix_s", Float, nullable=False),
)
LIFE = Table(
    "life",
    METADATA,
    Column("epoch", Integer, primary_key=True, autoincrement=False),
    Column("coordinator", String(200), nullable=False),
    Column("started_unix_s", Float, nullable=False),
    Column("seen_unix_s", Float, nullable=False),
    Column("ending", String(40)),
    Column("reason", Text),
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
    Column("epoch", Integer, ForeignKey("life.epoch"), nullable=False),
    Column("started_unix_s", Float, nullable=False),
    Column("finished_unix_s", Float),
    Column("ending", String(20)),
    Column("error_class", String(200)),
    Column("error_text", Text),
    Column("worker", String(200)),
    Column("late_outcomes", Integer, nullable=False, default=0),
)
RESULT = Table(
    "result",
    METADATA,
    Column("candidate", Integer, ForeignKey("candidate.number"), primary_key=True, autoincrement=False),
    Column("attempt", Integer, ForeignKey("attempt.id"), nullable=False),
    Column("metrics", JSON, nullable=False),
)
