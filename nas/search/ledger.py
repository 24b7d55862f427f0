"""The ledger: the one truth of a search, in SQL.

Everything is committed here before anything acts on it, so that a process killed at any moment loses only evaluations
that had not ended. The tables are in `schema`, where they are kept in `database`.

Each start of a search is a life with the next epoch, and every transaction first checks that its epoch is the newest
one. A coordinator that was suspended, or cut off from the database, while another one took over can therefore commit
nothing more.
"""

import dataclasses
import json
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Literal, Self, cast

from sqlalchemy import Connection, func, insert, inspect, select, update
from sqlalchemy.exc import DBAPIError, IntegrityError

from nas.errors import InputError, RunError
from nas.objectives import Value
from nas.run import Run
from nas.search.database import Database, PostgresSchema, SqliteFile, process_name, told
from nas.search.records import SUPERSEDED, Attempt, Candidate, Life, Proposal
from nas.search.schema import ATTEMPT, CANDIDATE, FORMAT, LIFE, METADATA, PROPOSAL, RESULT, RUN
from nas.search.transaction import Transaction
from search_spaces.architecture import Architecture


def _no_fault(_: str) -> None:
    pass


class Ledger:
    """The ledger of one run; readers need nothing else, the coordinator holds it through `coordinated`.

    Args:
        database: where it is kept; a path is that of a SQLite file. `begin` makes it.
        fault: called with each of `nas.search.transaction.FAULT_POINTS` as it is passed; tests kill the process there.
        fidelity: how results were found; the same architecture may be a candidate once for each.
    """

    def __init__(
        self, database: Path | Database, *, fault: Callable[[str], None] = _no_fault, fidelity: str = "full"
    ) -> None:
        self._database = SqliteFile(database) if isinstance(database, Path) else database
        self._engine = self._database.engine
        self._fault = fault
        self._fidelity = fidelity
        self._epoch: int | None = None

    @classmethod
    def of(cls, run: Run) -> Self:
        """Returns the ledger of a run: where its config says, else in its directory."""
        url = run.config.ledger
        return cls(run.ledger_path if url is None else PostgresSchema(url, run.config.name))

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Closes the database; a clean close folds SQLite's write-ahead log back into the one file."""
        self._engine.dispose()

    @property
    def label(self) -> str:
        """Names the ledger in messages."""
        return self._database.label

    def exists(self) -> bool:
        """Returns whether a search has begun here.

        Raises:
            RunError: the database cannot be read.
        """
        with self._translated():
            return self._database.exists()

    def coordinated(self) -> AbstractContextManager[None]:
        """Makes this process the run's one coordinator; the lock ends with the process, however that ends.

        Raises:
            RunError: another process is the coordinator.
        """
        return self._database.coordinated()

    @contextmanager
    def _transaction(self, name: str, **life: object) -> Iterator[Transaction]:
        """One commit, with values of this life; whoever sees it in the ledger sees all of it."""
        self._fault(f"{name}:before")
        try:
            with self._database.transaction(lambda: self._fault(f"{name}:recorded")) as connection:
                transaction = Transaction(connection, name, self._fault)
                if name != "begin":
                    self._check_epoch(transaction, life)
                yield transaction
        except IntegrityError:
            raise
        except DBAPIError as error:
            raise RunError(
                f"{self.label} cannot be written ({told(error)}): nothing committed is lost; mend this and start the "
                "same command again"
            ) from error
        self._fault(f"{name}:committed")

    def _check_epoch(self, transaction: Transaction, values: Mapping[str, object]) -> None:
        """Writes into the life of this coordinator, which fails where that life has ended.

        A write, as it makes the database put this transaction before or after that of the next life's `begin`.
        """
        if self._epoch is None:
            raise RuntimeError("a ledger is written after `begin` only")
        own = update(LIFE).where(LIFE.c.epoch == self._epoch, LIFE.c.ending.is_(None))
        if transaction.run(own.values(seen_unix_s=time.time(), **values)).rowcount == 1:
            return
        newest = transaction.connection.execute(select(LIFE).order_by(LIFE.c.epoch.desc()).limit(1)).one()
        raise RunError(
            f"process {newest.coordinator} has taken over {self.label} (epoch {newest.epoch}, here {self._epoch}): "
            "this process commits nothing more, and nothing is lost"
        )

    def passed(self, point: str) -> None:
        """Passes a fault point; for what the search does after a commit."""
        self._fault(point)

    @contextmanager
    def _reading(self) -> Iterator[Connection]:
        if not self.exists():
            raise RunError(f"there is no ledger at {self.label}: start the search first")
        self._database.verify()
        with self._translated(), self._engine.connect() as connection:
            yield connection

    @contextmanager
    def _translated(self) -> Iterator[None]:
        try:
            yield
        except DBAPIError as error:
            raise RunError(f"{self.label} cannot be read ({told(error)}): {self._database.mend}") from error

    def begin(
        self,
        identity: Mapping[str, str],
        validation_images: int | None = None,
        warm_start: Callable[[], Sequence[Architecture]] = tuple,
    ) -> None:
        """Makes the ledger, or checks that an existing one belongs to the same search; then starts a life.

        From here on, no earlier life can commit anything.

        Args:
            identity: what makes results comparable, as name and text.
            validation_images: labelled images behind every accuracy; None where unknown.
            warm_start: called where the ledger is made, for what the search proposes first.

        Raises:
            InputError: the search that made the ledger differs.
            RunError: the database is damaged, of another format, or cannot be reached.
        """
        new = not self._check_run(identity)
        first = [architecture.to_json() for architecture in warm_start()] if new else []
        now = time.time()
        with self._transaction("begin") as transaction:
            if new:
                self._database.prepare(transaction.connection)
                METADATA.create_all(transaction.connection)
                transaction.passed("create tables")
                values = {"identity": dict(identity), "validation_images": validation_images, "warm_start": first}
                transaction.run(insert(RUN).values(id=1, format=FORMAT, started_unix_s=now, **values))
            transaction.run(update(LIFE).where(LIFE.c.ending.is_(None)).values(ending=SUPERSEDED))
            last = transaction.connection.execute(select(func.max(LIFE.c.epoch))).scalar()
            times = {"started_unix_s": now, "seen_unix_s": now}
            epoch = (last or 0) + 1
            transaction.run(insert(LIFE).values(epoch=epoch, coordinator=process_name()[:200], **times))
        self._epoch = epoch

    def _check_run(self, identity: Mapping[str, str]) -> bool:
        """Returns whether there is a run; raises where it is another one."""
        if not self.exists():
            return False
        try:
            with self._reading() as connection:
                if not inspect(connection).has_table(RUN.name, schema=self._database.schema):
                    return False
                row = connection.execute(select(RUN.c.format, RUN.c.identity)).first()
        except json.JSONDecodeError as error:
            raise RunError(f"{self.label} is damaged ({error}): {self._database.mend}") from error
        if row is None:
            return False
        if row.format != FORMAT:
            raise RunError(
                f"{self.label} has format {row.format}, this version reads {FORMAT}: finish it with its own version"
            )
        for name in sorted(row.identity.keys() | identity.keys()):
            was, now = row.identity.get(name), identity.get(name)
            if was != now:
                raise InputError(
                    f"{self.label} belongs to a search with another {name} (then {was}, now {now}): "
                    f"restore {name}, or start a run with another name"
                )
        return True

    def end(self, ending: str, reason: str) -> None:
        """Commits why this life ends; it can commit nothing more."""
        with self._transaction("end", ending=ending, reason=reason):
            pass

    def lives(self) -> list[Life]:
        """Returns every start of the search, by epoch."""
        with self._reading() as connection:
            return [Life(**row._mapping) for row in connection.execute(select(LIFE).order_by(LIFE.c.epoch))]

    def validation_images(self) -> int | None:
        """Returns how many labelled images are behind every accuracy, None where unknown."""
        with self._reading() as connection:
            return cast(int | None, connection.execute(select(RUN.c.validation_images)).scalar_one())

    def candidates(self) -> list[Candidate]:
        """Returns every candidate, by number."""
        query = (
            select(CANDIDATE, RESULT.c.metrics)
            .outerjoin(RESULT, RESULT.c.candidate == CANDIDATE.c.number)
            .where(CANDIDATE.c.fidelity == self._fidelity)
            .order_by(CANDIDATE.c.number)
        )
        with self._reading() as connection:
            return [
                Candidate(
                    number=row.number,
                    architecture=Architecture.from_json(row.architecture),
                    costs={name: Value(**fields) for name, fields in row.costs.items()},
                    state=row.state,
                    metrics=row.metrics or {},
                )
                for row in connection.execute(query)
            ]

    def proposals(self) -> list[Proposal]:
        """Returns every proposal, by number."""
        with self._reading() as connection:
            rows = connection.execute(select(PROPOSAL).order_by(PROPOSAL.c.number))
            return [Proposal(**row._mapping) for row in rows]

    def attempts(self) -> list[Attempt]:
        """Returns every attempt, by id."""
        with self._reading() as connection:
            return [Attempt(**row._mapping) for row in connection.execute(select(ATTEMPT).order_by(ATTEMPT.c.id))]

    def warm_start(self) -> list[Architecture]:
        """Returns what the search proposes first."""
        with self._reading() as connection:
            return [Architecture.from_json(text) for text in connection.execute(select(RUN.c.warm_start)).scalar_one()]

    def late_outcomes(self) -> int:
        """Returns how many outcomes came too late: after their attempt had ended, or after another one's result."""
        late = select(func.coalesce(func.sum(ATTEMPT.c.late_outcomes), 0))
        duplicates = select(func.count()).where(ATTEMPT.c.ending == "duplicate")
        with self._reading() as connection:
            return sum(cast(int, connection.execute(query).scalar_one()) for query in (late, duplicates))

    def count_endings(self, candidate: int) -> dict[str, int]:
        """Returns how many attempts of a candidate ended in each way."""
        query = select(ATTEMPT.c.ending, func.count()).where(ATTEMPT.c.candidate == candidate)
        with self._reading() as connection:
            return {ending: count for ending, count in connection.execute(query.group_by(ATTEMPT.c.ending)) if ending}

    def abandon_attempts(self) -> int:
        """Closes the attempts that an earlier coordinator left running and returns their number."""
        ended = {"ending": "abandoned", "finished_unix_s": time.time()}
        with self._transaction("abandon") as transaction:
            return transaction.run(update(ATTEMPT).where(ATTEMPT.c.ending.is_(None)).values(**ended)).rowcount

    def propose(self, proposals: Sequence[Proposal], new: Candidate) -> int | None:
        """Commits a new candidate with the proposal that led to it, and those of known candidates before.

        Args:
            proposals: what the sampler said, in order; the last one comes to the new candidate.
            new: ``open`` or ``infeasible``.

        Returns:
            The id of the attempt that this starts, where the candidate is open.
        """
        with self._transaction("propose") as transaction:
            transaction.run(
                insert(CANDIDATE).values(
                    number=new.number,
                    key=new.architecture.key,
                    fidelity=self._fidelity,
                    architecture=new.architecture.to_json(),
                    costs={name: dataclasses.asdict(value) for name, value in new.costs.items()},
                    state=new.state,
                )
            )
            transaction.run(insert(PROPOSAL), [dataclasses.asdict(proposal) for proposal in proposals])
            return self._start_attempt(transaction, new.number) if new.state == "open" else None

    def start_attempt(self, candidate: int) -> int:
        """Commits that a candidate is evaluated again and returns the attempt's id."""
        with self._transaction("attempt") as transaction:
            return self._start_attempt(transaction, candidate)

    def _start_attempt(self, transaction: Transaction, candidate: int) -> int:
        values = {"candidate": candidate, "epoch": self._epoch, "started_unix_s": time.time()}
        key = transaction.run(insert(ATTEMPT).values(**values)).inserted_primary_key
        assert key is not None
        return cast(int, key[0])

    def commit_result(self, attempt: int, metrics: Mapping[str, float], worker: str) -> bool:
        """Commits what an attempt found; returns whether it is the candidate's result.

        It is where the attempt is still running and no other one was first; else it is only counted.
        """
        with self._transaction("result") as transaction:
            candidate = _candidate_of(transaction, attempt)
            if candidate is None:
                return False
            first = (
                transaction.connection.execute(select(RESULT).where(RESULT.c.candidate == candidate)).first() is None
            )
            ended = {"finished_unix_s": time.time(), "worker": worker, "ending": "done" if first else "duplicate"}
            if first:
                values = {"candidate": candidate, "attempt": attempt, "metrics": dict(metrics)}
                transaction.run(insert(RESULT).values(**values))
            transaction.run(update(ATTEMPT).where(ATTEMPT.c.id == attempt).values(**ended))
            if first:
                transaction.run(update(CANDIDATE).where(CANDIDATE.c.number == candidate).values(state="done"))
            return first

    def commit_failure(
        self, attempt: int, ending: Literal["failed", "lost"], error: tuple[str, str], worker: str, *, give_up: bool
    ) -> bool:
        """Commits how an attempt failed; returns whether it was still running, else the failure is only counted.

        Args:
            attempt: its id.
            ending: whether the evaluation failed or its worker was lost.
            error: class and text.
            worker: who ran it.
            give_up: whether the candidate is tried no more.
        """
        with self._transaction("failure") as transaction:
            candidate = _candidate_of(transaction, attempt)
            if candidate is None:
                return False
            ended = {"finished_unix_s": time.time(), "ending": ending, "worker": worker}
            ended |= {"error_class": _storable(error[0])[:200], "error_text": _storable(error[1])}
            transaction.run(update(ATTEMPT).where(ATTEMPT.c.id == attempt).values(**ended))
            if give_up:
                transaction.run(update(CANDIDATE).where(CANDIDATE.c.number == candidate).values(state="failed"))
            return True


def _candidate_of(transaction: Transaction, attempt: int) -> int | None:
    """Returns the candidate of a running attempt; counts the outcome of one that has ended, and returns None."""
    row = transaction.connection.execute(select(ATTEMPT).where(ATTEMPT.c.id == attempt)).one()
    if row.ending is None:
        return cast(int, row.candidate)
    transaction.run(update(ATTEMPT).where(ATTEMPT.c.id == attempt).values(late_outcomes=ATTEMPT.c.late_outcomes + 1))
    return None


def _storable(text: str) -> str:
    """Returns a text without what a database refuses: lone surrogates and, in PostgreSQL, NUL."""
    return text.encode(errors="backslashreplace").decode().replace("\0", "\\x00")
