"""What goes wrong while a search runs: failures that are repeated, outcomes that come too late or twice."""

import time
from collections import Counter
from pathlib import Path

import pytest

from nas.progress import Progress
from nas.search.executors.base import Failure, Job, Outcome
from nas.search.executors.serial import SerialExecutor
from nas.search.tracker import SearchProgress
from search_spaces.architecture import Architecture
from tests.nas.search.small import Small, evaluations
from tests.nas.search.test_loop import Answers, TwoAtOnce, good


class Shaky(Answers):
    """Fails the first evaluations of the first architecture, and notes when everything was evaluated."""

    def __init__(self, failures: int) -> None:
        super().__init__(self._answer)
        object.__setattr__(self, "log", [])
        object.__setattr__(self, "failures", failures)

    def _answer(self, architecture: Architecture, times: int) -> dict[str, float]:
        self.log.append((architecture.key, time.monotonic()))
        if architecture.key == self.log[0][0] and times <= self.failures:
            raise TimeoutError("busy")
        return good(architecture)


def test_a_failed_candidate_waits_twice_as_long_each_time_and_one_worker_keeps_the_order(tmp_path: Path) -> None:
    evaluator = Shaky(failures=2)
    small = Small(tmp_path, budget=4, retry_seconds=0.05)
    assert small.run(evaluator=evaluator).evaluated == 4
    keys = [key for key, _ in evaluator.log]
    assert keys == [keys[0]] * 3 + keys[3:]
    first, second, third = (moment for _, moment in evaluator.log[:3])
    assert second - first >= 0.05
    assert third - second >= 0.1


def test_others_go_on_while_a_failed_candidate_waits(tmp_path: Path) -> None:
    evaluator = Shaky(failures=2)
    small = Small(tmp_path, budget=6, retry_seconds=0.5)
    assert small.run(evaluator=evaluator, executor=TwoAtOnce()).evaluated == 6
    keys = [key for key, _ in evaluator.log]
    assert Counter(keys)[keys[0]] == 3
    assert keys[1] != keys[0]
    assert keys[-1] == keys[0], "the budget kept a place for it"


def test_a_stop_does_not_wait_for_a_failed_candidate(tmp_path: Path) -> None:
    import threading

    stop = threading.Event()

    def failing(architecture: Architecture, _: int) -> dict[str, float]:
        stop.set()
        raise TimeoutError("busy")

    small = Small(tmp_path, retry_seconds=3600)
    assert small.run(evaluator=Answers(failing), stop=stop).kind == "stopped"
    assert small.candidates()[0][1] == "open"
    assert small.run().evaluated == small.budget, "the next start does not wait either"


class ComesBack(SerialExecutor):
    """Gives its first job up as lost; that job's result comes with the next outcome all the same."""

    late: Outcome | None = None

    def wait(self, timeout_s: float) -> list[Outcome]:
        outcomes = super().wait(timeout_s)
        if self.late is None:
            self.late = Outcome(outcomes[0].job, "host:1", metrics={"accuracy": 0.123})
            return [Outcome(outcomes[0].job, "host:1", failure=Failure("lost", "ActorDiedError", "no answer"))]
        if self.late.metrics:
            outcomes.insert(0, self.late)
            self.late = Outcome(self.late.job, "host:1", failure=Failure("lost", "ActorDiedError", "told already"))
        return outcomes


def test_a_lost_worker_that_comes_back_late_is_counted_and_nothing_is_doubled(tmp_path: Path) -> None:
    events: list[Progress] = []
    small = Small(tmp_path, budget=5)
    outcome = small.run(executor=ComesBack(), listener=events.append)
    assert (outcome.evaluated, outcome.failed, outcome.late) == (5, 0, 1)
    with small.ledger() as ledger:
        candidates, attempts = ledger.candidates(), ledger.attempts()
    assert [(a.candidate, a.ending, a.late_outcomes) for a in attempts[:2]] == [(0, "lost", 1), (0, "done", 0)]
    assert candidates[0].metrics["accuracy"] != 0.123, "the candidate's second evaluation counts"
    last = events[-1]
    assert isinstance(last, SearchProgress)
    assert (last.late, "1 late" in last.text) == (1, True)
    assert small.with_budget(6).run().late == 1, "the next start knows of it"


def test_outcomes_that_come_twice_change_nothing(tmp_path: Path) -> None:
    once, thrice = (Small(tmp_path / str(n), answers=n, fails_for="0123", sampler="tpe") for n in (1, 3))
    once.folder.mkdir()
    thrice.folder.mkdir()
    expected, outcome = once.run(), thrice.run()
    assert outcome.evaluated == expected.evaluated
    assert (thrice.candidates(), thrice.front()) == (once.candidates(), once.front())
    assert evaluations(thrice.folder) == evaluations(once.folder)
    assert expected.late == 0
    assert outcome.late == 2 * evaluations(once.folder).total()


def test_a_job_of_an_earlier_life_is_late(tmp_path: Path) -> None:
    class Old(SerialExecutor):
        """Answers for an attempt that the previous start of the search left running."""

        def wait(self, timeout_s: float) -> list[Outcome]:
            outcomes = super().wait(timeout_s)
            old = Job(1, outcomes[0].job.architecture)
            return [*outcomes, Outcome(old, "host:1", metrics={"accuracy": 0.5})] if len(outcomes) else outcomes

    small = Small(tmp_path, budget=3)
    with pytest.raises(ZeroDivisionError):
        small.run(fault=lambda point: 1 / 0 if point == "propose:submitted" else None)
    outcome = small.run(executor=Old())
    assert (outcome.evaluated, outcome.late) == (3, 3)
    with small.ledger() as ledger:
        first = ledger.attempts()[0]
    assert (first.ending, first.epoch, first.late_outcomes) == ("abandoned", 1, 3)
