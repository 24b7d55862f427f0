import os
import signal
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest

from nas.config import RayConfig
from nas.search.executors.base import Executor
from tests.nas.search.executors.commands import Commands
from tests.nas.torch_threads import one_thread  # noqa: F401  (a fixture for every test here, as workers have one)


@pytest.fixture(scope="package")
def private_ray() -> Iterator[None]:
    """One private Ray for all tests of this folder, as starting one takes seconds."""
    import ray

    from nas.search.executors.ray_session import connect

    handler = signal.getsignal(signal.SIGTERM)
    disconnect = connect(RayConfig(workers=6))
    assert signal.getsignal(signal.SIGTERM) == handler, "Ray's own handler would end a search in the middle"
    assert os.environ["RAY_AUTH_TOKEN"], "only processes that have the token can connect"
    folder = Path(ray._private.worker.global_worker.node.get_session_dir_path()).parent
    processes = psutil.Process().children(recursive=True)
    yield
    disconnect()
    names = {process.pid: process for process in processes if "ray" in str(process)}
    assert not psutil.wait_procs(names.values(), timeout=60)[1], "no process of Ray stays"
    assert not folder.exists()


@pytest.fixture(scope="package")
def ray_pool(private_ray: None) -> Iterator[Callable[..., Executor]]:
    """Makes executors of two workers, or as many as one says, on the one Ray: they find it connected already."""
    from nas.search.executors import ray_actors

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(ray_actors, "connect", lambda *_: lambda: None)
        yield lambda workers=2: ray_actors.RayExecutor(RayConfig(workers=workers))


@pytest.fixture(scope="module")
def ray_executor(ray_pool: Callable[[], Executor]) -> Iterator[Executor]:
    """Two actors that obey `Commands`."""
    with ray_pool() as executor:
        executor.start(Commands())
        yield executor


@pytest.fixture(scope="module")
def tune_executor(private_ray: None) -> Iterator[Executor]:
    """Ray Tune with two actors that obey `Commands`."""
    from nas.search.executors import ray_tune

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(ray_tune, "connect", lambda *_: lambda: None)
        with ray_tune.TuneExecutor(RayConfig(workers=2)) as executor:
            executor.start(Commands())
            yield executor
