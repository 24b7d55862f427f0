"""The ledger: the one truth of a search, in SQL.

Everything is committed here before anything acts on it, so that a process killed at any moment loses only evaluations
that had not ended. The tables are in `schema`.
"""

import dataclasses
import json
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, Self, cast, get_args

from sqlalchemy import Connection, func, insert, inspect, select, update
from sqlalchemy.exc import DatabaseError, IntegrityError

from nas.errors import InputError, RunError
from nas.objectives import Value
from nas.search.schema import ATTEMPT, CANDIDATE, METADATA, PROPOSAL, RESULT, RUN, sqlite_engine
from search_spaces.architecture import Architecture, Choice
from search_spaces.file_lock import FileHeldError, hold

FORMAT = 1

State = Literal["open", "done", "infeasible", "failed"]
"""Of a candidate: to be evaluated, evaluated, not evaluated because its costs break a constraint, given up."""

Ending = Literal["done", "duplicate", "failed", "lost", "abandoned"]
"""Of an attempt: its result was the first; another's was; it raised or returned nonsense; its worker died; the
coordinator died before it ended."""

TRANSACTIONS = ("begin", "propose", "attempt", "result", "failure", "abandon")
"""The commits of a search, by name."""

FAULT_POINTS = tuple(f"{name}:{place}" for name in TRANSACTIONS for place in ("before", "written", "committed"))
"""Where a test can kill the process: before each transaction, after its writes, after its commit."""


@dataclass(frozen=True)
class Candidate:
    """A distinct architecture of the search.

    Attributes:
        number: in order of proposal, from 0.
        architecture: canonical.
        costs: the cheap metrics, by objective name.
        state: how far it is.
        metrics: what the evaluator found, where the state is ``done``; else empty.
    """

    number: int
    architecture: Architecture
    costs: Mapping[str, Value]
    state: State = "open"
    metrics: Mapping[str, float] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.state not in get_args(State) or bool(self.metrics) != (self.state == "done"):
            raise ValueError(f"a candidate has metrics exactly where it is done, got {self}")


@dataclass(frozen=True)
class Proposal:
    """One answer of the sampler.

    Attributes:
        number: of the question, from 0; Optuna's trial number.
        candidate: number of the candidate it comes to.
        parameters: a value for every dimension of the space, switched-off ones included.
        sampler_state: what the sampler left in Optuna's storage, by attribute: ``trial`` of this trial, ``study`` new
            ones of the study.
    """

    number: int
    candidate: int
    parameters: Mapping[str, Choice]
    sampler_state: Mapping[str, Mapping[str, Any]]  # whatever JSON the sampler chooses


@dataclass(frozen=True)
class Attempt:
    """One evaluation that was started; ``ending`` is None while it runs."""

    id: int
    candidate: int
    started_unix_s: float
    finished_unix_s: float | None
    ending: Ending | None
    error_class: str | None
    error_text: str | None
    worker: str | None


def _no_fault(_: str) -> None:
    pass


class Ledger:
    """The ledger of one run; readers need nothing else, the coordinator holds it through `coordinated`.

    Args:
        path: the SQLite file; made by `begin`.
        fault: called with each of `FAULT_POINTS` as it is passed; tests kill the process there.
        fidelity: how results were found; the same architecture may be a candidate once for each.
    """

    def __init__(self, path: Path, *, fault: Callable[[str], None] = _no_fault, fidelity: str = "full") -> None:
        self.path = path
        self._fault = fault
        self._fidelity = fidelity
        self._engine = sqlite_engine(path)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Closes the database; a clean close folds the write-ahead log back into the one file."""
        self._engine.dispose()

    @contextmanager
    def coordinated(self) -> Iterator[None]:
        """Makes this process the run's one coordinator; the lock ends with the process, however that ends.

        Raises:
            RunError: another process is the coordinator.
        """
        self.path.parent.mkdir(parents=True, exist_ok=True)
        try:
            lock = hold(self.path.with_suffix(".lock"))
        except FileHeldError as held:
            raise RunError(
                f"{self.path} is written by process {held.holder}: wait until that search ends, or stop it first"
            ) from None
        with lock:
            yield

    @contextmanager
    def _transaction(self, name: str) -> Iterator[Connection]:
        """One commit; whoever sees it in the ledger sees all of it."""
        self._fault(f"{name}:before")
        try:
            with self._engine.begin() as connection:
                yield connection
                self._fault(f"{name}:written")
        except IntegrityError:
            raise
        except DatabaseError as error:
            raise RunError(
                f"{self.path} cannot be written ({error.orig}): nothing committed is lost; mend this and start the "
                "same command again"
            ) from error
        self._fault(f"{name}:committed")

    @contextmanager
    def _reading(self) -> Iterator[Connection]:
        if not self.path.is_file():
            raise RunError(f"there is no ledger at {self.path}: start the search first")
        try:
            with self._engine.connect() as connection:
                yield connection
        except DatabaseError as error:
            raise RunError(f"{self.path} cannot be read ({error.orig}): restore it from a copy") from error

    def begin(self, identity: Mapping[str, str], validation_images: int | None = None) -> None:
        """Makes the ledger, or checks that an existing one belongs to the same search.

        Args:
            identity: what makes results comparable, as name and text.
            validation_images: labelled images behind every accuracy; None where unknown.

        Raises:
            InputError: the search that made the ledger differs.
            RunError: the file is damaged or of another format.
        """
        if self.path.is_file():
            try:
                with self._reading() as connection:
                    row = connection.execute(select(RUN)).first() if inspect(connection).has_table("run") else None
            except json.JSONDecodeError as error:
                raise RunError(f"{self.path} is damaged ({error}): restore it from a copy") from error
            if row is not None:
                _check_run(self.path, row.format, row.identity, identity)
                return
        with self._transaction("begin") as connection:
            METADATA.create_all(connection)
            row_values = {"identity": dict(identity), "validation_images": validation_images}
            connection.execute(insert(RUN).values(id=1, format=FORMAT, started_unix_s=time.time(), **row_values))

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

    def abandon_attempts(self) -> int:
        """Closes the attempts that an earlier coordinator left running and returns their number."""
        with self._transaction("abandon") as connection:
            ended = {"ending": "abandoned", "finished_unix_s": time.time()}
            return connection.execute(update(ATTEMPT).where(ATTEMPT.c.ending.is_(None)).values(**ended)).rowcount

    def propose(self, proposals: Sequence[Proposal], new: Candidate) -> int | None:
        """Commits a new candidate with the proposal that led to it, and those of known candidates before.

        Args:
            proposals: what the sampler said, in order; the last one comes to the new candidate.
            new: ``open`` or ``infeasible``.

        Returns:
            The id of the attempt that this starts, where the candidate is open.
        """
        with self._transaction("propose") as connection:
            connection.execute(
                insert(CANDIDATE).values(
                    number=new.number,
                    key=new.architecture.key,
                    fidelity=self._fidelity,
                    architecture=new.architecture.to_json(),
                    costs={name: dataclasses.asdict(value) for name, value in new.costs.items()},
                    state=new.state,
                )
            )
            connection.execute(insert(PROPOSAL), [dataclasses.asdict(proposal) for proposal in proposals])
            return _start_attempt(connection, new.number) if new.state == "open" else None

    def start_attempt(self, candidate: int) -> int:
        """Commits that a candidate is evaluated again and returns the attempt's id."""
        with self._transaction("attempt") as connection:
            return _start_attempt(connection, candidate)

    def commit_result(self, attempt: int, metrics: Mapping[str, float], worker: str) -> bool:
        """Commits what an attempt found; returns whether it is the candidate's result (the first one is)."""
        ended = {"finished_unix_s": time.time(), "worker": worker}
        try:
            with self._transaction("result") as connection:
                candidate = _candidate_of(connection, attempt)
                connection.execute(insert(RESULT).values(candidate=candidate, attempt=attempt, metrics=dict(metrics)))
                connection.execute(update(ATTEMPT).where(ATTEMPT.c.id == attempt).values(ending="done", **ended))
                connection.execute(update(CANDIDATE).where(CANDIDATE.c.number == candidate).values(state="done"))
        except IntegrityError:
            with self._transaction("result") as connection:
                connection.execute(update(ATTEMPT).where(ATTEMPT.c.id == attempt).values(ending="duplicate", **ended))
            return False
        return True

    def commit_failure(
        self, attempt: int, ending: Literal["failed", "lost"], error: tuple[str, str], worker: str, *, give_up: bool
    ) -> None:
        """Commits how an attempt failed.

        Args:
            attempt: its id.
            ending: whether the evaluation failed or its worker was lost.
            error: class and text.
            worker: who ran it.
            give_up: whether the candidate is tried no more.
        """
        with self._transaction("failure") as connection:
            ended = {"finished_unix_s": time.time(), "ending": ending, "worker": worker}
            ended |= {"error_class": error[0][:200], "error_text": error[1]}
            connection.execute(update(ATTEMPT).where(ATTEMPT.c.id == attempt).values(**ended))
            if give_up:
                candidate = _candidate_of(connection, attempt)
                connection.execute(update(CANDIDATE).where(CANDIDATE.c.number == candidate).values(state="failed"))

    def count_endings(self, candidate: int) -> dict[str, int]:
        """Returns how many attempts of a candidate ended in each way."""
        query = select(ATTEMPT.c.ending, func.count()).where(ATTEMPT.c.candidate == candidate)
        with self._reading() as connection:
            return {ending: count for ending, count in connection.execute(query.group_by(ATTEMPT.c.ending)) if ending}


def _start_attempt(connection: Connection, candidate: int) -> int:
    result = connection.execute(insert(ATTEMPT).values(candidate=candidate, started_unix_s=time.time()))
    key = result.inserted_primary_key
    assert key is not None
    return cast(int, key[0])


def _candidate_of(connection: Connection, attempt: int) -> int:
    return cast(int, connection.execute(select(ATTEMPT.c.candidate).where(ATTEMPT.c.id == attempt)).scalar_one())


def _check_run(path: Path, stored_format: int, stored: Mapping[str, str], identity: Mapping[str, str]) -> None:
    if stored_format != FORMAT:
        raise RunError(
            f"{path} has format {stored_format}, this version reads {FORMAT}: finish it with its own version"
        )
    for name in sorted(stored.keys() | identity.keys()):
        was, now = stored.get(name), identity.get(name)
        if was != now:
            raise InputError(
                f"{path} belongs to a search with another {name} (then {was}, now {now}): "
                f"restore {name}, or start a run with another name"
            )
