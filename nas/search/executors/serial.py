"""One evaluation after the other, in this process: the same seed gives the same candidates."""

import os
import socket
from collections import deque

from nas.evaluators.base import Evaluator
from nas.search.executors.base import Executor, Job, Outcome, describe


class SerialExecutor(Executor):
    """Evaluates in the calling process, inside `wait`."""

    def __init__(self) -> None:
        self._jobs: deque[Job] = deque()
        self._evaluator: Evaluator | None = None
        self._name = f"{socket.gethostname()}:{os.getpid()}"

    @property
    def capacity(self) -> int:
        """One."""
        return 1

    def start(self, evaluator: Evaluator) -> None:
        """Sets the evaluator up."""
        evaluator.setup()
        self._evaluator = evaluator

    def submit(self, job: Job) -> None:
        """Keeps the job for `wait`."""
        self._jobs.append(job)

    def wait(self, timeout_s: float) -> list[Outcome]:
        """Evaluates one job, however long that takes."""
        assert self._evaluator is not None, "start before wait"
        if not self._jobs:
            return []
        job = self._jobs.popleft()
        try:
            return [Outcome(job, self._name, metrics=dict(self._evaluator.evaluate(job.architecture)))]
        except Exception as error:
            return [Outcome(job, self._name, failure=describe(error))]

    def close(self) -> None:
        """Forgets the evaluator."""
        self._evaluator = None
        self._jobs.clear()
