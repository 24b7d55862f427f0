"""A pool of Ray actors; each holds an evaluator that was set up once."""

import logging
import math
import time
from collections import deque
from dataclasses import dataclass
from typing import Any

import ray
from ray.exceptions import RayError, RayTaskError

from nas.config import RayConfig
from nas.errors import HwnasError, RunError
from nas.evaluators.base import Evaluator
from nas.search.executors.base import Executor, Failure, Job, Outcome, describe
from nas.search.executors.ray_session import connect
from nas.search.executors.ray_worker import pin_threads, process_name, set_up, shipped_bytes
from search_spaces.architecture import Architecture

_logger = logging.getLogger(__name__)

MAX_SETUP_DEATHS = 3
"""Workers that may die while they load the evaluator, each in the place of the one before, until the search ends.

All that load on one machine die with it at once: that alone is no reason to end.
"""

_NOTICE_SECONDS = 30.0


class _Worker:
    """What runs in an actor's process. Errors come back as data: an exception class may not exist in the driver."""

    def __init__(self, evaluator: Evaluator, threads: int) -> None:
        self._evaluator = evaluator
        self._threads = threads
        pin_threads(threads)

    def setup(self) -> tuple[str, Failure | None]:
        """Returns the worker's name, and the failure of the evaluator's setup."""
        return process_name(), set_up(self._evaluator, self._threads)

    def evaluate(self, architecture: Architecture) -> dict[str, float] | Failure:
        try:
            return dict(self._evaluator.evaluate(architecture))
        except Exception as error:
            return describe(error)


@dataclass
class _Actor:
    """An actor of the pool: ``job`` is None while it sets up or waits, ``name`` is empty until it is set up.

    ``setup_deaths`` is the number of those before it in its place that died in a row while they were set up.
    """

    handle: Any  # ray's actor handles are not typed
    setup_deaths: int = 0
    name: str = ""
    job: Job | None = None


class RayExecutor(Executor):
    """Evaluates on `workers` actors of a private Ray on this machine or of a running cluster.

    A dead actor is replaced by a new one as soon as its death is seen. Ray ends the processes of a private Ray together
    with the thread that calls `start`, however that thread ends: call it in the main thread.

    Args:
        config: address, number and resources of the workers.
    """

    def __init__(self, config: RayConfig) -> None:
        self._config = config
        self._jobs: deque[Job] = deque()
        self._idle: list[_Actor] = []
        self._busy: dict[Any, _Actor] = {}  # by ray's reference to the answer
        self._disconnect = _nothing
        self._evaluator: Any = None  # in the object store, whence each node brings it once for all of its actors
        self._last_ready_s = math.inf

    @property
    def capacity(self) -> int:
        """The number of workers that are set up; one before there are any.

        A cluster may give the others later, or take some away: what waits for a worker is not proposed yet, so that
        it can be proposed with more knowledge.
        """
        return max(1, self._ready)

    @property
    def _ready(self) -> int:
        return len(self._idle) + sum(bool(actor.name) for actor in self._busy.values())

    def start(self, evaluator: Evaluator) -> None:
        """Connects to Ray and asks for the actors; they set the evaluator up while this returns.

        Raises:
            RunError: Ray cannot be started or reached, or this process is connected already.
        """
        self._disconnect = connect(self._config, shipped_bytes(evaluator))
        self._evaluator = ray.put(evaluator)
        threads = max(1, int(self._config.cpus_per_worker))
        self._actor_class = ray.remote(_Worker).options(
            num_cpus=self._config.cpus_per_worker,
            num_gpus=self._config.gpus_per_worker,
            max_restarts=0,
        )
        self._threads = threads
        self._last_ready_s = time.monotonic()
        for _ in range(self._config.workers):
            self._add_actor()

    def _add_actor(self, setup_deaths: int = 0) -> None:
        actor = _Actor(self._actor_class.remote(self._evaluator, self._threads), setup_deaths)
        self._busy[actor.handle.setup.remote()] = actor

    def submit(self, job: Job) -> None:
        """Gives the job to an idle worker, or keeps it for the next one."""
        self._jobs.append(job)
        self._assign()

    def _assign(self) -> None:
        while self._jobs and self._idle:
            actor, job = self._idle.pop(), self._jobs.popleft()
            actor.job = job
            self._busy[actor.handle.evaluate.remote(job.architecture)] = actor

    def wait(self, timeout_s: float) -> list[Outcome]:
        """Returns what is ready once something is, or nothing when there are more workers or the time is over."""
        deadline, capacity = time.monotonic() + timeout_s, self.capacity
        outcomes: list[Outcome] = []
        while self._busy:
            references = list(self._busy)
            ready, _ = ray.wait(references, num_returns=1, timeout=max(0.0, deadline - time.monotonic()))
            if ready:
                ready, _ = ray.wait(references, num_returns=len(references), timeout=0)
            for reference in ready:
                outcome = self._collect(reference, self._busy.pop(reference))
                if outcome is not None:
                    outcomes.append(outcome)
            self._assign()
            if outcomes or self.capacity > capacity or time.monotonic() >= deadline:
                break
        self._notice_missing_workers()
        return outcomes

    def _collect(self, reference: Any, actor: _Actor) -> Outcome | None:
        """Takes an actor's answer: None where it was its setup's."""
        job, actor.job = actor.job, None
        try:
            answer = ray.get(reference)
        except RayTaskError as error:  # the answer itself could not be brought over; the actor lives
            answer = describe(error)
        except RayError as error:
            return self._bury(actor, job, error)
        self._last_ready_s = time.monotonic()
        if job is None:
            self._finish_setup(actor, answer)
            return None
        self._idle.append(actor)
        if isinstance(answer, Failure):
            return Outcome(job, actor.name, failure=answer)
        return Outcome(job, actor.name, metrics=answer)

    def _finish_setup(self, actor: _Actor, answer: tuple[str, Failure | None] | Failure) -> None:
        name, failure = ("", answer) if isinstance(answer, Failure) else answer
        if failure is not None:
            raise RunError(f"a worker cannot load the evaluator ({failure.error_class}: {failure.text})")
        actor.name = name
        self._idle.append(actor)

    def _bury(self, actor: _Actor, job: Job | None, error: RayError) -> Outcome | None:
        """Replaces a dead actor and returns its job as lost."""
        first_line = (str(error).strip().splitlines() or [""])[0]
        _logger.warning("worker %s is gone (%s: %s); starting another", actor.name, type(error).__name__, first_line)
        ray.kill(actor.handle)  # where it is only out of reach, it must not go on beside its successor
        setup_deaths = 0 if actor.name else actor.setup_deaths + 1
        if setup_deaths >= MAX_SETUP_DEATHS:
            raise RunError(
                f"{setup_deaths} workers in a row died while loading the evaluator ({first_line}): "
                "give them more memory, or fewer of them with ray.workers"
            ) from error
        self._add_actor(setup_deaths)
        return None if job is None else Outcome(job, actor.name, failure=describe(error, "lost"))

    def _notice_missing_workers(self) -> None:
        if not self._idle and not any(actor.name for actor in self._busy.values()):
            waited_s = time.monotonic() - self._last_ready_s
            if waited_s > _NOTICE_SECONDS:
                _logger.warning(
                    "no worker is ready after %.0f s: the cluster must have %g CPUs and %g GPUs free for each",
                    waited_s,
                    self._config.cpus_per_worker,
                    self._config.gpus_per_worker,
                )
                self._last_ready_s = math.inf  # said once

    def close(self) -> None:
        """Kills the actors and disconnects; a private Ray ends with all its processes and files."""
        try:
            for actor in (*self._idle, *self._busy.values()):
                try:
                    ray.kill(actor.handle)
                except (RayError, HwnasError, ValueError) as error:
                    _logger.debug("actor %s could not be killed: %s", actor.name, error)
        finally:
            self._idle.clear()
            self._busy.clear()
            self._evaluator = None
            self._jobs.clear()
            disconnect, self._disconnect = self._disconnect, _nothing
            disconnect()


def _nothing() -> None:
    pass
