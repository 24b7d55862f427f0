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
import threading
import time
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from nas.config import SearchConfig
from nas.errors import RunError
from nas.evaluators.base import Evaluator, fully_trained
from nas.evaluators.costs import CostModel
from nas.progress import ProgressListener, silent
from nas.search.executors.base import Executor, Failure, Job, Outcome
from nas.search.interrupts import stop_on_signals
from nas.search.ledger import Ledger
from nas.search.problem import SearchProblem
from nas.search.records import Candidate, Proposal
from nas.search.samplers import get_sampler
from nas.search.stop_rules import EndKind, StopRules
from nas.search.study import SearchStudy, Told
from nas.search.tracker import Tracker, known_values
from nas.search.warm_start import parameters_of, warm_start
from search_spaces.architecture import Choice

_logger = logging.getLogger(__name__)

MAX_ATTEMPTS: Mapping[Literal["failed", "lost"], int] = {"failed": 3, "lost": 5}
"""Evaluations of one candidate that may fail (two retries) or lose their worker before it is given up. Workers also
die for reasons that are not the candidate's, so that it gets more of those."""

MAX_FAILED_IN_A_ROW = 5
"""Candidates given up without a success in between before the search ends: the fault is not the candidates'."""

_POLL_SECONDS = 1.0


@dataclass(frozen=True)
class SearchOutcome:
    """How a search ended.

    Attributes:
        kind: ``budget`` reached, ``time`` over, ``no gain`` expected any more, ``space exhausted`` (every architecture
            is known), ``nothing new`` (the sampler keeps proposing what is known or not allowed) or ``stopped`` from
            outside.
        reason: in words.
        evaluated: distinct architectures with a result, those of earlier starts included.
        infeasible: distinct architectures that were not evaluated because their costs break a constraint.
        failed: distinct architectures given up.
        late: outcomes that came after their attempt had ended, or twice; they were counted and changed nothing.
        proposals: questions to the sampler.
    """

    kind: EndKind
    reason: str
    evaluated: int
    infeasible: int
    failed: int
    late: int
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
        config: sampler, budget, limit of time, pauses before retries, warm start.
        seed: of the sampler.
        validation_images: labelled images behind every accuracy, for its interval.
        listener: hears `SearchProgress` after every result.
        stop: set by the caller to end the search after the running evaluations.

    Raises:
        InputError: the ledger belongs to another search; an unknown sampler.
        RunError: another process runs this search; too many evaluations fail; no worker can be had.
    """
    stop = stop or threading.Event()
    with ledger.coordinated(), executor, stop_on_signals(stop):
        identity = problem.identity(seed)
        if config.warm_start:
            identity["warm_start"] = ", ".join(config.warm_start)
        ledger.begin(identity, validation_images, lambda: warm_start(config.warm_start, problem))
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
        self._config = config
        self._listener = listener
        self._stop = stop
        self._study = SearchStudy(problem.space, problem.objectives, get_sampler(problem, costs, config), seed=seed)
        self._tracker = Tracker(problem)
        self._rules = StopRules(problem, config, self._tracker, stop)
        self._candidates: dict[str, Candidate] = {}  # by architecture key
        self._questions: dict[str, list[int]] = {}  # proposals that wait for an open candidate
        self._left_open: deque[Candidate] = deque()  # by an earlier start
        self._running: dict[int, str] = {}  # architecture keys, by attempt
        self._retries: list[tuple[float, Candidate]] = []  # with the time from which on
        self._started = False
        self._warm_start: list[Mapping[str, Choice]] = []
        self._proposals = 0
        # Proposals of known architectures since the last new one. They are committed with the next new one: nothing is
        # evaluated for them, and a killed search, asking again, gets the same ones.
        self._repeats: list[Proposal] = []
        self._failed_in_a_row = 0

    def run(self) -> SearchOutcome:
        self._restore()
        self._report()
        while True:
            end = self._fill()
            if end is not None and not self._running:
                self._ledger.end(*end)
                return self._outcome(*end)
            pause_s = _POLL_SECONDS
            if self._retries and len(self._running) < self._executor.capacity:
                next_retry_s = min(due_s for due_s, _ in self._retries) - time.monotonic()
                pause_s = max(0.0, min(next_retry_s, _POLL_SECONDS))
            if not self._running:
                self._stop.wait(pause_s)
                continue
            for outcome in self._executor.wait(pause_s):
                self._receive(outcome)
                self._rules.barren = 0  # what the sampler learns may lead it to something new

    def _restore(self) -> None:
        """Rebuilds study and counts from the ledger."""
        abandoned = self._ledger.abandon_attempts()
        if abandoned:
            _logger.info("%d evaluations had not ended when the search was last stopped; they start again", abandoned)
        self._rules.earlier_s = sum(life.seen_unix_s - life.started_unix_s for life in self._ledger.lives()[:-1])
        self._warm_start = [parameters_of(a, self._problem.space) for a in self._ledger.warm_start()]
        self._tracker.late = self._ledger.late_outcomes()
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
            self._rules.note_gain(proposal)
            if candidate.state == "open":
                self._questions[candidate.architecture.key].append(proposal.number)
            self._proposals += 1
        self._ledger.passed("abandon:restored")

    def _fill(self) -> tuple[EndKind, str] | None:
        """Gets jobs running up to the executor's capacity; returns why there will be no more, where that is so."""
        while True:
            end = self._rules.halt()
            if end is not None:
                return end
            if len(self._running) >= self._executor.capacity:
                return None
            candidate = self._next_open()
            if candidate is not None:
                self._submit(candidate, self._ledger.start_attempt(candidate.number))
                self._ledger.passed("attempt:submitted")
                continue
            underway = len(self._running) + len(self._retries)
            end = self._rules.enough(known=len(self._candidates), underway=underway)
            if end is not None:
                return None if self._retries else end
            if self._retries and self._executor.capacity == 1:
                return None  # one worker evaluates in the order of the proposals, whatever fails
            self._propose()

    def _next_open(self) -> Candidate | None:
        """Returns a candidate to evaluate again: left open by an earlier start, or one whose pause is over."""
        if self._left_open:
            return self._left_open.popleft()
        for entry in self._retries:
            if entry[0] <= time.monotonic():
                self._retries.remove(entry)
                return entry[1]
        return None

    def _propose(self) -> None:
        """Asks the sampler once, and evaluates what it says where that is new."""
        first = self._warm_start[self._proposals] if self._proposals < len(self._warm_start) else None
        number, parameters, sampler_state = self._study.ask(first)
        self._proposals += 1
        architecture = self._problem.space.architecture(parameters)
        known = self._candidates.get(architecture.key)
        if known is not None:
            self._repeats.append(Proposal(number, known.number, parameters, sampler_state))
            self._rules.note_gain(self._repeats[-1])
            self._answer(number, known)
            self._rules.barren += 1
            return
        (costs,) = self._costs.costs_of([architecture])
        costs = {name: cost for name, cost in costs.items() if name in self._problem.names}
        candidate = Candidate(len(self._candidates), architecture, costs)
        if not self._problem.feasible(known_values(candidate)):
            candidate = dataclasses.replace(candidate, state="infeasible")
        proposals = [*self._repeats, Proposal(number, candidate.number, parameters, sampler_state)]
        self._rules.note_gain(proposals[-1])
        attempt = self._ledger.propose(proposals, candidate)
        self._repeats.clear()
        self._candidates[architecture.key] = candidate
        self._questions[architecture.key] = []
        self._answer(number, candidate)
        self._ledger.passed("propose:told")
        if attempt is not None:
            self._rules.barren = 0
            self._submit(candidate, attempt)
            self._ledger.passed("propose:submitted")
        else:
            self._rules.barren += 1
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
        violations = self._problem.violations(values)
        if not fully_trained(candidate.metrics):
            return Told(None, violations, stopped_early=True)
        return Told([values.get(objective.name, 0.0) for objective in self._problem.objectives], violations)

    def _submit(self, candidate: Candidate, attempt: int) -> None:
        if not self._started:
            self._executor.start(self._evaluator)
            self._started = True
        self._running[attempt] = candidate.architecture.key
        costs = {name: cost.value for name, cost in candidate.costs.items()}
        self._executor.submit(Job(attempt, candidate.architecture, costs))

    def _receive(self, outcome: Outcome) -> None:
        """Commits how an evaluation ended, then acts on it where it was still awaited."""
        self._running.pop(outcome.job.attempt, None)
        candidate = self._candidates[outcome.job.architecture.key]
        failure = outcome.failure or self._fault(candidate, outcome.metrics or {})
        if failure is not None:
            self._receive_failure(candidate, outcome, failure)
            return
        assert outcome.metrics is not None
        metrics = {name: float(value) for name, value in outcome.metrics.items()}
        if not self._ledger.commit_result(outcome.job.attempt, metrics, outcome.worker):
            self._count_late(outcome)
            return
        self._failed_in_a_row = 0
        self._close(dataclasses.replace(candidate, state="done", metrics=metrics))
        self._ledger.passed("result:told")

    def _count_late(self, outcome: Outcome) -> None:
        self._tracker.late += 1
        _logger.warning(
            "attempt %d of %s had ended when %s answered; counted as late",
            outcome.job.attempt,
            outcome.job.architecture.key,
            outcome.worker,
        )
        self._report(notable=True)

    def _receive_failure(self, candidate: Candidate, outcome: Outcome, failure: Failure) -> None:
        earlier = self._ledger.count_endings(candidate.number).get(failure.kind, 0)
        give_up = earlier + 1 >= MAX_ATTEMPTS[failure.kind]
        error = (failure.error_class, failure.text)
        attempt = outcome.job.attempt
        if not self._ledger.commit_failure(attempt, failure.kind, error, outcome.worker, give_up=give_up):
            self._count_late(outcome)
            return
        key = candidate.architecture.key
        pause_s = self._config.retry_seconds * 2**earlier
        _logger.warning(
            "evaluation %d of %s %s (%s: %s)%s",
            earlier + 1,
            key,
            failure.kind,
            failure.error_class,
            failure.text,
            "; given up" if give_up else f"; again in {pause_s:g} s",
        )
        if not give_up:
            self._retries.append((time.monotonic() + pause_s, candidate))
            return
        self._failed_in_a_row += 1
        self._close(dataclasses.replace(candidate, state="failed"))
        self._ledger.passed("failure:told")
        if self._failed_in_a_row >= MAX_FAILED_IN_A_ROW:
            raise RunError(
                f"{self._failed_in_a_row} candidates in a row could not be evaluated, the last one {key} with "
                f"{failure.error_class}: {failure.text}; nothing is lost: mend this and start the same command again"
            )

    def _close(self, candidate: Candidate) -> None:
        """Ends an open candidate in memory, after the ledger has it."""
        key = candidate.architecture.key
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
        self._listener(self._tracker.progress(self._config.budget, front_changed=front_changed, notable=notable))

    def _outcome(self, kind: EndKind, reason: str) -> SearchOutcome:
        counts = self._tracker.counts
        return SearchOutcome(
            kind, reason, counts["done"], counts["infeasible"], counts["failed"], self._tracker.late, self._proposals
        )
