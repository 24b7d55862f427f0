"""A real Ray cluster of several nodes, some of which die and others come, while a search runs on it."""

import logging
import os
import signal
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

import nas.search.executors  # noqa: F401  (before ray, which reads its settings then)
from nas.config import RayConfig
from tests.nas.search.small import HOLD, Small, child, evaluations, lines, runs, wait_until

pytestmark = pytest.mark.slow

TOKEN = "a-token-of-at-least-thirty-two-characters"


def search_on_cluster(small: Small, address: str, token: str, workers: int) -> None:
    logging.disable(logging.WARNING)
    os.environ.update(RAY_AUTH_TOKEN=token, RAY_AUTH_MODE="token")  # read when ray is imported
    from nas.search.executors.ray_actors import RayExecutor

    small.run(executor=RayExecutor(RayConfig(address=address, workers=workers)))


def setups(small: Small) -> set[str]:
    """The processes that have been set up, by pid."""
    return set(lines(small.folder / "setups.log"))


@pytest.fixture
def cluster(monkeypatch: pytest.MonkeyPatch) -> "Iterator[Cluster]":  # noqa: F821
    """A head that takes no work; whoever connects to it needs the token."""
    from ray._private.authentication_test_utils import reset_auth_token_state
    from ray.cluster_utils import Cluster

    with monkeypatch.context() as patch:
        patch.setenv("RAY_AUTH_MODE", "token")
        patch.setenv("RAY_AUTH_TOKEN", TOKEN)
        reset_auth_token_state()  # Ray keeps what it read for an earlier test
        cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 0, "include_dashboard": False})
        yield cluster
        cluster.shutdown()
    reset_auth_token_state()


def test_the_work_of_lost_nodes_and_killed_workers_is_done_by_others_in_the_same_life(
    cluster: "Cluster",  # noqa: F821
    tmp_path: Path,
) -> None:
    """Three workers are asked for and only two cores are there, so that one of them waits for the node that comes."""
    settings = {"sampler": "random", "budget": 50}  # whose candidates do not depend on when results come
    whole = Small(tmp_path / "whole", **settings)
    whole.folder.mkdir()
    whole.run()
    small = Small(tmp_path / "cluster", **settings, seconds=0.1)
    small.folder.mkdir()
    hold = small.folder / HOLD  # while it is there, those that come find work, however long they take
    hold.touch()
    doomed, _ = cluster.add_node(num_cpus=1), cluster.add_node(num_cpus=1)
    process = child(search_on_cluster, small, cluster.address, TOKEN, 3)
    wait_until(lambda: len(setups(small)) >= 2, 300)
    hold.unlink()
    wait_until(lambda: evaluations(small.folder).total() >= 6, 300)  # though one worker is not placed yet
    hold.touch()
    early = setups(small)
    cluster.remove_node(doomed, allow_graceful=False)
    for _ in range(2):
        cluster.add_node(num_cpus=1)
    wait_until(lambda: len(setups(small) - early) >= 2, 300)
    os.kill(int((setups(small) - early).pop()), signal.SIGKILL)
    wait_until(lambda: len(setups(small) - early) >= 3, 300)
    hold.unlink()
    process.join(300)
    assert process.exitcode == 0
    assert small.candidates() == whole.candidates(), "nothing is lost"
    with small.ledger() as ledger:
        attempts = ledger.attempts()
    endings = Counter(attempt.ending for attempt in attempts)
    assert endings["done"] == 50
    assert set(endings) == {"done", "lost"}, "none is left running, none is started again by another life"
    assert 1 <= endings["lost"] <= 3, "the node had work, and perhaps the killed worker"
    for candidate, (key, _) in enumerate(small.candidates()):
        lost = sum(attempt.ending == "lost" for attempt in attempts if attempt.candidate == candidate)
        assert 1 <= evaluations(small.folder)[key] <= 1 + lost, "nothing is evaluated twice without need"
    workers = {str(attempt.worker).rpartition(":")[2] for attempt in attempts if attempt.ending == "done"}
    assert len(workers - early) >= 2, "the nodes that came are used"
    wait_until(lambda: not any(runs(int(pid)) for pid in setups(small)))  # Ray ends them after the driver
