"""The search loop: ask the sampler, evaluate what is new, commit, tell the sampler.

Everything is committed to the ledger before it is acted on, and the study is rebuilt from the ledger at every start,
so that killing the process at any moment loses only evaluations that had not ended.

An architecture whose costs break a constraint is not evaluated: its violation is known without its accuracy. The
sampler is told the violation, and 0 for each value that nobody found; this cannot mislead it, as NSGA-II and TPE order
trials that break a constraint by their violation alone, after all that break none.
"""

import dataclasses
import logging
import math
import signal
import threading
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from types import FrameType
from typing import Literal

from nas.config import SearchConfig
from nas.errors import RunError
from nas.evaluators.base import Evaluator
from nas.evaluators.costs import CostModel
from nas.progress import ProgressListener, silent
from nas.search.executors.base import Executor, Failure, Job, Outcome
from nas.search.ledger import Candidate, Ledger, Proposal
from nas.search.problem import SearchProblem
from nas.search.samplers import get_sampler
from nas.search.study import SearchStudy, Told
from nas.search.tracker import Tracker, known_values

_logger = logging.getLogger(__name__)

MAX_ATTEMPTS: Mapping[Literal["failed", "lost"], int] = {"failed": 3, "lost": 5}
"""Evaluations of one candidate that may fail (two retries) or lose their worker before it is given up. Workers also
die for reasons that are not the candidate's, so that it gets more of those."""

MAX_FAILED_IN_A_ROW = 5
"""Candidates given up without a success in between before the search ends: the fault is not the candidates'."""

MAX_BARREN_PROPOSALS = 1000
"""Proposals in a row that bring nothing to evaluate (known, or breaking a constraint) before the search ends."""

_POLL_SECONDS = 1.0

EndKind = Literal["budget", "space exhausted", "nothing new", "stopped"]


@dataclass(frozen=True)
class SearchOutcome:
    """How a search ended.

    Attributes:
        kind: ``budget`` reached, ``space exhausted`` (every architecture is known), ``nothing new`` (the sampler keeps
            proposing what is known or not allowed) or ``stopped`` from outside.
        reason: in words.
        evaluated: distinct architectures with a result, those of earlier starts included.
        infeasible: distinct architectures that were not evaluated because their costs break a constraint.
        failed: distinct architectures given up.
        proposals: questions to the sampler.
    """

    kind: EndKind
    reason: str
    evaluated: int
    infeasible: int
    failed: int
    proposals: int


def run_search(
    problem: SearchProblem,
    *,
    evaluator: Evaluator,
    costs: CostModel,
    executor: Executor,
    ledger: Ledger,
    config: SearchConfig,
    seed: int,
    validation_images: int | None = None,
    listener: ProgressListener = silent,
    stop: threading.Event | None = None,
) -> SearchOutcome:
    """Searches until the budget is met; goes on where an earlier start of the same search ended.

    With a serial executor, the same seed gives the same candidates, however often the process is killed in between. A
    larger budget extends a finished search. SIGINT and SIGTERM end it after the running evaluations; a second one ends
    it at once.

    Args:
        problem: what is searched.
        evaluator: finds the expensive metrics.
        costs: finds the others.
        executor: runs the evaluator; started where there is something to evaluate, and closed at the end.
        ledger: of this run; may hold an earlier part of this search.
        config: sampler and budget.
        seed: of the sampler.
        validation_images: labelled images behind every accuracy, for its interval.
        listener: hears `SearchProgress` after every result.
        stop: set by the caller to end the search after the running evaluations.

    Raises:
        InputError: the ledger belongs to another search; an unknown sampler.
        RunError: another process runs this search; too many evaluations fail; no worker can be had.
    """
    stop = stop or threading.Event()
    with ledger.coordinated(), executor, _stop_on_signals(stop):
        ledger.begin(problem.identity(seed), validation_images)
        return _Search(problem, evaluator, costs, executor, ledger, config, seed, listener, stop).run()


class _Search:
    """The state of one start of a search; everything in it comes from the ledger or goes there first."""

    def __init__(
        self,
        problem: SearchProblem,
        evaluator: Evaluator,
        costs: CostModel,
        executor: Executor,
        ledger: Ledger,
        config: SearchConfig,
        seed: int,
        listener: ProgressListener,
        stop: threading.Event,
    ) -> None:
        self._problem = problem
        self._evaluator = evaluator
        self._costs = costs
        self._executor = executor
        self._ledger = ledger
        self._budget = config.budget
        self._listener = listener
        self._stop = stop
        self._study = SearchStudy(problem.space, problem.objectives, get_sampler(problem.space, config), seed=seed)
        self._tracker = Tracker(problem)
        self._candidates: dict[str, Candidate] = {}  # by architecture key
        self._questions: dict[str, list[int]] = {}  # proposals that wait for an open candidate
        self._left_open: deque[Candidate] = deque()  # by an earlier start
        self._running: set[str] = set()
        self._started = False
        self._proposals = 0
        # Proposals of known architectures since the last new one. They are committed with the next new one: nothing is
        # evaluated for them, and a killed search, asking again, gets the same ones.
        self._repeats: list[Proposal] = []
        self._barren = 0
        self._failed_in_a_row = 0

    def run(self) -> SearchOutcome:
        self._restore()
        self._report()
        while True:
            end = self._fill()
            if not self._running:
                assert end is not None, "an executor takes at least one job"
                return self._outcome(*end)
            for outcome in self._executor.wait(_POLL_SECONDS):
                self._receive(outcome)
                self._barren = 0  # what the sampler learns may lead it to something new

    def _restore(self) -> None:
        """Rebuilds study and counts from the ledger."""
        abandoned = self._ledger.abandon_attempts()
        if abandoned:
            _logger.info("%d evaluations had not ended when the search was last stopped; they start again", abandoned)
        by_number = {}
        for candidate in self._ledger.candidates():
            by_number[candidate.number] = self._candidates[candidate.architecture.key] = candidate
            if candidate.state == "open":
                self._left_open.append(candidate)
                self._questions[candidate.architecture.key] = []
            else:
                self._tracker.add(candidate)
        for proposal in self._ledger.proposals():
            candidate = by_number[proposal.candidate]
            self._study.restore(proposal, self._told(candidate))
            if candidate.state == "open":
                self._questions[candidate.architecture.key].append(proposal.number)
            self._proposals += 1

    def _fill(self) -> tuple[EndKind, str] | None:
        """Gets jobs running up to the executor's capacity; returns why there will be no more, where that is so."""
        while True:
            if self._stop.is_set():
                return "stopped", "stopped from outside; the same command goes on from here"
            if self._tracker.counts["done"] + len(self._running) >= self._budget:
                return "budget", f"the budget of {self._budget} evaluations is met"
            if len(self._running) >= self._executor.capacity:
                return None
            if self._left_open:
                candidate = self._left_open.popleft()
                self._submit(candidate, self._ledger.start_attempt(candidate.number))
            elif len(self._candidates) >= self._problem.space.size:
                return "space exhausted", f"all {self._problem.space.size} architectures of the space are known"
            elif self._barren >= MAX_BARREN_PROPOSALS:
                return "nothing new", self._barren_reason()
            else:
                self._propose()

    def _propose(self) -> None:
        """Asks the sampler once, and evaluates what it says where that is new."""
        number, parameters, sampler_state = self._study.ask()
        self._proposals += 1
        architecture = self._problem.space.architecture(parameters)
        known = self._candidates.get(architecture.key)
        if known is not None:
            self._repeats.append(Proposal(number, known.number, parameters, sampler_state))
            self._answer(number, known)
            self._barren += 1
            return
        costs = {name: cost for name, cost in self._costs.costs(architecture).items() if name in self._problem.names}
        candidate = Candidate(len(self._candidates), architecture, costs)
        if not self._problem.feasible(known_values(candidate)):
            candidate = dataclasses.replace(candidate, state="infeasible")
        proposals = [*self._repeats, Proposal(number, candidate.number, parameters, sampler_state)]
        attempt = self._ledger.propose(proposals, candidate)
        self._repeats.clear()
        self._candidates[architecture.key] = candidate
        self._questions[architecture.key] = []
        self._answer(number, candidate)
        if attempt is not None:
            self._barren = 0
            self._submit(candidate, attempt)
        else:
            self._barren += 1
            self._tracker.add(candidate)

    def _answer(self, number: int, candidate: Candidate) -> None:
        """Tells the sampler what is known about a candidate, now or when it is."""
        told = self._told(candidate)
        if told is None:
            self._questions[candidate.architecture.key].append(number)
        else:
            self._study.tell(number, told)

    def _told(self, candidate: Candidate) -> Told | None:
        """Returns what the sampler learns about a candidate, None while it is open."""
        if candidate.state == "open":
            return None
        if candidate.state == "failed":
            return Told(None, {})
        values = known_values(candidate)
        return Told(
            [values.get(objective.name, 0.0) for objective in self._problem.objectives],
            self._problem.violations(values),
        )

    def _submit(self, candidate: Candidate, attempt: int) -> None:
        if not self._started:
            self._executor.start(self._evaluator)
            self._started = True
        self._running.add(candidate.architecture.key)
        self._executor.submit(Job(attempt, candidate.architecture))

    def _receive(self, outcome: Outcome) -> None:
        """Commits how an evaluation ended, then acts on it."""
        candidate = self._candidates[outcome.job.architecture.key]
        failure = outcome.failure or self._fault(candidate, outcome.metrics or {})
        if failure is not None:
            self._receive_failure(candidate, outcome, failure)
            return
        assert outcome.metrics is not None
        metrics = {name: float(value) for name, value in outcome.metrics.items()}
        self._ledger.commit_result(outcome.job.attempt, metrics, outcome.worker)
        self._failed_in_a_row = 0
        self._close(dataclasses.replace(candidate, state="done", metrics=metrics))

    def _receive_failure(self, candidate: Candidate, outcome: Outcome, failure: Failure) -> None:
        earlier = self._ledger.count_endings(candidate.number).get(failure.kind, 0)
        give_up = earlier + 1 >= MAX_ATTEMPTS[failure.kind]
        error = (failure.error_class, failure.text)
        self._ledger.commit_failure(outcome.job.attempt, failure.kind, error, outcome.worker, give_up=give_up)
        key = candidate.architecture.key
        _logger.warning(
            "evaluation %d of %s %s (%s: %s)%s",
            earlier + 1,
            key,
            failure.kind,
            failure.error_class,
            failure.text,
            "; given up" if give_up else "; trying again",
        )
        if not give_up:
            self._submit(candidate, self._ledger.start_attempt(candidate.number))
            return
        self._failed_in_a_row += 1
        self._close(dataclasses.replace(candidate, state="failed"))
        if self._failed_in_a_row >= MAX_FAILED_IN_A_ROW:
            raise RunError(
                f"{self._failed_in_a_row} candidates in a row could not be evaluated, the last one {key} with "
                f"{failure.error_class}: {failure.text}; nothing is lost: mend this and start the same command again"
            )

    def _close(self, candidate: Candidate) -> None:
        """Ends an open candidate in memory, after the ledger has it."""
        key = candidate.architecture.key
        self._running.discard(key)
        self._candidates[key] = candidate
        told = self._told(candidate)
        assert told is not None
        for number in self._questions.pop(key):
            self._study.tell(number, told)
        front_changed = self._tracker.add(candidate)
        self._report(front_changed=front_changed, notable=candidate.state == "failed")

    def _fault(self, candidate: Candidate, metrics: Mapping[str, float]) -> Failure | None:
        """Returns what is wrong with what an evaluator returned."""
        missing = self._problem.names - candidate.costs.keys() - metrics.keys()
        if missing:
            return Failure("failed", "MissingMetric", f"the evaluator returned no {', '.join(sorted(missing))}")
        for name, value in metrics.items():
            if not isinstance(value, int | float) or not math.isfinite(value):
                return Failure("failed", "NotFinite", f"{name} must be a finite number, got {value!r}")
        if not 0 <= metrics.get("accuracy", 0.0) <= 1:
            return Failure("failed", "OutOfRange", f"accuracy must be between 0 and 1, got {metrics['accuracy']}")
        return None

    def _report(self, *, front_changed: bool = False, notable: bool = False) -> None:
        self._listener(self._tracker.progress(self._budget, front_changed=front_changed, notable=notable))

    def _barren_reason(self) -> str:
        counts, bounds = self._tracker.counts, " and ".join(c.text for c in self._problem.constraints)
        reason = f"the last {self._barren} proposals were known architectures"
        if counts["infeasible"]:
            reason += f" or break {bounds}"
        if not counts["done"]:
            reason += f"; of {counts['infeasible']} distinct ones none is allowed: widen the bounds"
        return reason

    def _outcome(self, kind: EndKind, reason: str) -> SearchOutcome:
        counts = self._tracker.counts
        return SearchOutcome(kind, reason, counts["done"], counts["infeasible"], counts["failed"], self._proposals)


@contextmanager
def _stop_on_signals(stop: threading.Event) -> Iterator[None]:
    """Sets the event on the first SIGINT or SIGTERM and raises KeyboardInterrupt on the second."""

    def handle(number: int, _: FrameType | None) -> None:
        if stop.is_set():
            raise KeyboardInterrupt
        stop.set()
        _logger.warning("%s: ending after the running evaluations; again to end now", signal.Signals(number).name)

    earlier: dict[signal.Signals, Callable[[int, FrameType | None], object] | int | None] = {}
    with suppress(ValueError):  # outside the main thread nobody may set handlers, and the caller has `stop`
        for number in (signal.SIGINT, signal.SIGTERM):
            earlier[number] = signal.signal(number, handle)
    try:
        yield
    finally:
        for restored, handler in earlier.items():
            signal.signal(restored, handler)
