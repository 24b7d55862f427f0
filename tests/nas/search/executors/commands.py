"""An evaluator that does what the name of the space says, and a search on a running cluster, for child processes."""

import os
import signal
import sys
import threading
from multiprocessing.connection import Connection
from pathlib import Path

from nas.config import RayConfig
from nas.evaluators.base import Evaluator
from nas.search.executors.base import Job
from search_spaces.architecture import Architecture
from tests.nas.search.small import append, lines, wait_until


class UnpicklableError(Exception):
    """An exception that cannot be brought over to another process."""

    def __init__(self, one: int, two: int) -> None:
        super().__init__(f"{one} and {two}")
        self.handle = sys.stderr


class Commands(Evaluator):
    """Obeys ``ok``, ``raise``, ``raise unpicklable``, ``die``, ``lock`` and ``environment``."""

    def __init__(self) -> None:
        self.setups = 0

    def setup(self) -> None:
        self.setups += 1

    def evaluate(self, architecture: Architecture) -> dict[str, float]:
        command = architecture.space
        if command == "raise":
            raise LookupError("no such weights")
        if command == "raise unpicklable":
            raise UnpicklableError(1, 2)
        if command == "die":
            os.kill(os.getpid(), signal.SIGKILL)
        if command == "lock":
            return {"accuracy": threading.Lock()}  # type: ignore[dict-item]
        if command == "environment":
            return {"pid": os.getpid(), "setups": self.setups, "threads": float(os.environ.get("OMP_NUM_THREADS", 0))}
        return {"accuracy": float(len(architecture.values))}


class BadSetup(Commands):
    """Raises or dies while it is set up."""

    def __init__(self, *, dies: bool) -> None:
        super().__init__()
        self.dies = dies

    def setup(self) -> None:
        if self.dies:
            os.kill(os.getpid(), signal.SIGKILL)
        raise FileNotFoundError("supernet.safetensors")


class DieTogether(Commands):
    """The first workers wait for each other while they are set up and then die, as on a machine that is lost."""

    def __init__(self, log: Path, workers: int) -> None:
        super().__init__()
        self.log = log
        self.workers = workers

    def setup(self) -> None:
        append(self.log, str(os.getpid()))
        wait_until(lambda: len(lines(self.log)) >= self.workers)
        if str(os.getpid()) in lines(self.log)[: self.workers]:
            os.kill(os.getpid(), signal.SIGKILL)


def job(attempt: int, command: str = "ok", values: int = 0) -> Job:
    return Job(attempt, Architecture(command, tuple((f"d{i:03d}", i) for i in range(values))))


def evaluate_on_cluster(address: str, token: str, answers: "Connection[object, object]") -> None:
    """Runs a job on a cluster from a process of its own and sends its metrics or the error."""
    os.environ.update(RAY_AUTH_TOKEN=token, RAY_AUTH_MODE="token")  # read when ray is imported
    from nas.search.executors.ray_actors import RayExecutor

    try:
        with RayExecutor(RayConfig(address=address, workers=1, cpus_per_worker=0.5)) as executor:
            executor.start(Commands())
            executor.submit(job(0, values=3))
            outcomes = [outcome for _ in range(60) for outcome in executor.wait(1)][:1]
            answers.send([outcome.metrics for outcome in outcomes])
    except Exception as error:
        answers.send(f"{type(error).__name__}: {error}")
