"""What a ledger holds, as values."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, get_args

from nas.objectives import Value
from search_spaces.architecture import Architecture, Choice

State = Literal["open", "done", "infeasible", "failed"]
"""Of a candidate: to be evaluated, evaluated, not evaluated because its costs break a constraint, given up."""

Ending = Literal["done", "duplicate", "failed", "lost", "abandoned"]
"""Of an attempt: its result was the first; another's was; it raised or returned nonsense; its worker died; the
coordinator died before it ended. What comes after that is counted and changes nothing."""

SUPERSEDED = "superseded"
"""Ending of a life that another one followed before it ended by itself."""


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
    """One evaluation that was started; ``ending`` is None while it runs.

    Attributes:
        epoch: of the life that started it.
        late_outcomes: that came after it had ended; counted, and otherwise ignored.
    """

    id: int
    candidate: int
    epoch: int
    started_unix_s: float
    finished_unix_s: float | None
    ending: Ending | None
    error_class: str | None
    error_text: str | None
    worker: str | None
    late_outcomes: int


@dataclass(frozen=True)
class Life:
    """One start of the search.

    Attributes:
        epoch: from 1.
        coordinator: host and process.
        started_unix_s: when it took over.
        seen_unix_s: of its last transaction.
        ending: why it ended, None while it is the newest and has not; `SUPERSEDED` where it was killed or cut off.
        reason: in words.
    """

    epoch: int
    coordinator: str
    started_unix_s: float
    seen_unix_s: float
    ending: str | None
    reason: str | None
