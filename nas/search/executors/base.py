"""The contract of an executor: evaluations go in as jobs, every one of them comes out as one outcome.

Who owns lost work: an executor reports it and repairs itself, the loop decides. Where a worker dies, the executor
replaces the worker and returns the job as an outcome with a ``lost`` failure; it never repeats a job by itself, so that
the ledger has a row for every evaluation that was started, and one rule caps all repetitions.
"""

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal, Self

from nas.evaluators.base import Evaluator
from search_spaces.architecture import Architecture


@dataclass(frozen=True)
class Job:
    """An evaluation to do.

    Attributes:
        attempt: its id in the ledger.
        architecture: canonical.
        costs: what is known before, by objective name; an executor that stops evaluations early compares like with
            like.
    """

    attempt: int
    architecture: Architecture
    costs: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class Failure:
    """Why an evaluation has no result.

    Attributes:
        kind: ``failed`` where the evaluator raised, ``lost`` where its worker died.
        error_class: name of the exception's class.
        text: of the exception.
    """

    kind: Literal["failed", "lost"]
    error_class: str
    text: str


@dataclass(frozen=True)
class Outcome:
    """How a job ended: with metrics or with a failure.

    Attributes:
        job: as submitted.
        worker: host and process that ran it.
        metrics: what the evaluator returned, unchecked.
        failure: where there are no metrics.
    """

    job: Job
    worker: str
    metrics: dict[str, float] | None = None
    failure: Failure | None = None

    def __post_init__(self) -> None:
        if (self.metrics is None) == (self.failure is None):
            raise ValueError(f"an outcome has either metrics or a failure, got {self}")


class Executor(ABC):
    """Runs an evaluator on architectures.

    A `with` block closes it. One start and one close; nothing is shared between two executors.
    """

    @property
    @abstractmethod
    def capacity(self) -> int:
        """How many jobs can run at once now, at least one; submitting more only makes them wait."""

    @abstractmethod
    def start(self, evaluator: Evaluator) -> None:
        """Gets workers ready; they set the evaluator up, perhaps still after this returns.

        Raises:
            HwnasError: workers cannot be had.
        """

    @abstractmethod
    def submit(self, job: Job) -> None:
        """Takes a job; returns at once."""

    @abstractmethod
    def wait(self, timeout_s: float) -> list[Outcome]:
        """Returns the outcomes that are ready, at least one unless `capacity` grows or the time is over first.

        `serial` ignores the time.

        Raises:
            HwnasError: no worker can be had, or the evaluator's `setup` failed.
        """

    @abstractmethod
    def close(self) -> None:
        """Ends every worker and frees what was started; jobs still running are lost. May be called twice."""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def describe(error: BaseException, kind: Literal["failed", "lost"] = "failed") -> Failure:
    """Returns an exception as a failure."""
    return Failure(kind, type(error).__name__, str(error))
