"""What Ray adds to the contract: real workers that really die."""

import os
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from nas.config import RayConfig
from nas.errors import RunError
from nas.search.executors import ray_actors
from nas.search.executors.base import Executor
from nas.search.executors.ray_session import connect
from tests.nas.search.executors.commands import BadSetup, Commands, DieTogether, evaluate_on_cluster, job
from tests.nas.search.executors.test_contract import outcomes
from tests.nas.search.small import CHILDREN, child, runs, wait_until

pytestmark = pytest.mark.slow


def test_a_killed_worker_is_replaced_and_its_job_reported_lost(
    ray_executor: Executor, capsys: pytest.CaptureFixture[str]
) -> None:
    ray_executor.submit(job(0, "die"))
    ray_executor.submit(job(1, "die"))
    lost = outcomes(ray_executor, 2)
    assert {outcome.failure and outcome.failure.kind for outcome in lost} == {"lost"}
    assert {outcome.failure and outcome.failure.error_class for outcome in lost} == {"ActorDiedError"}
    dead = {int(outcome.worker.rpartition(":")[2]) for outcome in lost}
    wait_until(lambda: not any(runs(pid) for pid in dead))
    for attempt in range(2, 30):
        ray_executor.submit(job(attempt, "environment"))
    found = outcomes(ray_executor, 28)
    assert {outcome.job.attempt for outcome in found} == set(range(2, 30))
    assert not dead & {int(outcome.metrics["pid"]) for outcome in found if outcome.metrics}
    assert {outcome.metrics["threads"] for outcome in found if outcome.metrics} == {1}, "as many as its CPUs"
    assert capsys.readouterr().out == "", "standard output belongs to the command, not to Ray"


def test_an_answer_that_cannot_travel_is_a_failure_and_the_worker_lives(ray_executor: Executor) -> None:
    ray_executor.submit(job(0, "lock"))
    (first,) = outcomes(ray_executor, 1)
    assert first.failure is not None
    assert first.failure.kind == "failed"
    ray_executor.submit(job(1, values=2))
    (second,) = outcomes(ray_executor, 1)
    assert second.metrics == {"accuracy": 2.0}


def test_torch_is_pinned_where_the_evaluator_loads_it() -> None:
    before, environment = torch.get_num_threads(), dict(os.environ)
    try:
        ray_actors._Worker(Commands(), threads=before + 1).setup()
        assert torch.get_num_threads() == before + 1
    finally:
        torch.set_num_threads(before)
        os.environ.clear()
        os.environ.update(environment)


def test_an_evaluator_that_cannot_be_set_up_is_named(ray_pool: Callable[[], Executor]) -> None:
    with ray_pool() as executor:
        executor.start(BadSetup(dies=False))
        with pytest.raises(RunError, match=r"cannot load the evaluator \(FileNotFoundError: supernet\.safetensors\)"):
            executor.wait(60)


def test_workers_that_die_while_they_load_end_the_search(ray_pool: Callable[[], Executor]) -> None:
    with ray_pool() as executor:
        executor.start(BadSetup(dies=True))
        with pytest.raises(RunError, match="3 workers in a row died while loading the evaluator"):
            executor.wait(60)


def test_workers_that_die_together_while_they_load_are_replaced(
    ray_pool: Callable[..., Executor], tmp_path: Path
) -> None:
    with ray_pool(ray_actors.MAX_SETUP_DEATHS) as executor:
        executor.start(DieTogether(tmp_path / "setups.log", ray_actors.MAX_SETUP_DEATHS))
        executor.submit(job(0, values=1))
        (outcome,) = outcomes(executor, 1)
        assert outcome.metrics == {"accuracy": 1.0}


def test_a_process_that_is_connected_already_is_told_so(private_ray: None) -> None:
    with pytest.raises(RunError, match="connected to Ray already"):
        connect(RayConfig())


def test_another_process_uses_a_running_cluster_by_its_address(private_ray: None) -> None:
    import ray

    receive, send = CHILDREN.Pipe(duplex=False)
    process = child(evaluate_on_cluster, ray.get_runtime_context().gcs_address, os.environ["RAY_AUTH_TOKEN"], send)
    assert receive.poll(120)
    assert receive.recv() == [{"accuracy": 3.0}]
    process.join(60)
    assert process.exitcode == 0
    assert ray.is_initialized()
    assert ray.cluster_resources()["CPU"] == 6, "the cluster lives on"
