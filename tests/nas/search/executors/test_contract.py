"""Every executor keeps the contract of `Executor`; a new one is tested by being listed in the fixture."""

import os
from collections.abc import Iterator

import pytest

from nas.search.executors.base import Executor, Outcome
from nas.search.executors.serial import SerialExecutor
from tests.nas.search.executors.commands import BadSetup, Commands, job


@pytest.fixture(scope="module")
def serial_executor() -> Iterator[Executor]:
    with SerialExecutor() as executor:
        executor.start(Commands())
        yield executor


@pytest.fixture(
    params=[
        "serial_executor",
        pytest.param("ray_executor", marks=pytest.mark.slow),
        pytest.param("tune_executor", marks=pytest.mark.slow),
    ]
)
def executor(request: pytest.FixtureRequest) -> Executor:
    executor = request.getfixturevalue(request.param)
    assert isinstance(executor, Executor)
    return executor


def outcomes(executor: Executor, count: int) -> list[Outcome]:
    found: list[Outcome] = []
    for _ in range(120):
        found += executor.wait(1)
        if len(found) >= count:
            break
    return found


def test_every_job_comes_out_once_with_its_metrics(executor: Executor) -> None:
    jobs = [job(attempt, values=attempt) for attempt in range(20)]
    for each in jobs:
        executor.submit(each)
    found = outcomes(executor, 20)
    assert sorted((outcome.job.attempt, outcome.metrics) for outcome in found) == [
        (attempt, {"accuracy": float(attempt)}) for attempt in range(20)
    ]
    assert all(outcome.job == jobs[outcome.job.attempt] and outcome.worker for outcome in found)
    assert executor.wait(0.05) == []


def test_an_exception_is_a_failure_with_its_class_and_text(executor: Executor) -> None:
    executor.submit(job(0, "raise"))
    (outcome,) = outcomes(executor, 1)
    assert outcome.failure is not None
    assert (outcome.failure.kind, outcome.failure.error_class) == ("failed", "LookupError")
    assert outcome.failure.text == "no such weights"


def test_an_exception_that_cannot_travel_is_told_all_the_same(executor: Executor) -> None:
    executor.submit(job(0, "raise unpicklable"))
    (outcome,) = outcomes(executor, 1)
    assert outcome.failure is not None
    assert (outcome.failure.error_class, outcome.failure.text) == ("UnpicklableError", "1 and 2")


def test_a_worker_sets_its_evaluator_up_once(executor: Executor) -> None:
    for attempt in range(12):
        executor.submit(job(attempt, "environment"))
    found = [outcome.metrics for outcome in outcomes(executor, 12)]
    assert all(metrics is not None and metrics["setups"] == 1 for metrics in found)
    assert len({metrics["pid"] for metrics in found if metrics}) <= executor.capacity


def test_an_outcome_has_metrics_or_a_failure() -> None:
    with pytest.raises(ValueError, match="either metrics or a failure"):
        Outcome(job(0), "host:1")


def test_a_serial_executor_works_in_this_process_and_raises_what_setup_raises() -> None:
    with SerialExecutor() as executor:
        with pytest.raises(FileNotFoundError, match="supernet"):
            executor.start(BadSetup(dies=False))
        executor.start(Commands())
        executor.submit(job(0, "environment"))
        (outcome,) = executor.wait(1)
        assert outcome.metrics is not None
        assert outcome.metrics["pid"] == os.getpid()
        executor.close()
