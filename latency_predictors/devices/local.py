"""Devices that are this machine: each block is a child process pinned to its own cores."""

import logging
import os
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from pathlib import Path

from latency_predictors.devices.runner_device import RUNNER, RunnerDevice
from latency_predictors.devices.runner_process import RunnerProcess
from search_spaces.file_lock import FileHeldError, hold

logger = logging.getLogger(__name__)

PAUSE_SECONDS = 0.05
"""Between two launches, for other processes to take their turn."""
PATIENCE_SECONDS = 120.0
"""How long to wait for a turn; launches of tens of models take seconds."""


class LocalDevice(RunnerDevice):
    """Runs `runner.py` with this interpreter; subclasses name the runtime."""

    @contextmanager
    def _runner(self, threads: int) -> Iterator[RunnerProcess]:
        # -P: the runner's own folder holds modules named like the runtimes.
        command = [sys.executable, "-P", str(RUNNER)]
        with _alone(), RunnerProcess(command, _environment(threads)) as runner:
            yield runner


def _environment(threads: int) -> dict[str, str]:
    # Some libraries read their number of threads when they are imported, before the runner can set it.
    return {
        **os.environ,
        "OMP_NUM_THREADS": str(threads),
        "OPENBLAS_NUM_THREADS": "1",
    }


@contextmanager
def _alone() -> Iterator[None]:
    """Waits until no other process of this user measures on this machine, but not for ever.

    The system unlocks when a process ends in any way. One that was stopped (Ctrl-Z) keeps the lock; measuring beside it
    is no danger to the figures, as the runner counts only undisturbed moments.
    """
    time.sleep(PAUSE_SECONDS)  # or a process that measures launch after launch would never let go for long enough
    path = Path(tempfile.gettempdir()) / f"hwnas-measuring-{os.getuid()}.lock"
    end = time.monotonic() + PATIENCE_SECONDS
    while True:
        try:
            lock: AbstractContextManager[object] = hold(path, mode=0o600)
            break
        except FileHeldError as held:
            if time.monotonic() > end:
                logger.warning(
                    "process %s has been measuring for over %d s without a break; measuring beside it",
                    held.holder, PATIENCE_SECONDS,
                )  # fmt: skip
                lock = nullcontext()
                break
        time.sleep(PAUSE_SECONDS / 5)
    with lock:
        yield
