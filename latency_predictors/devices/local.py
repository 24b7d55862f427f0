"""Devices that are this machine: each block is a child process pinned to its own cores."""

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager

from latency_predictors.devices.runner_device import RUNNER, RunnerDevice
from latency_predictors.devices.runner_process import RunnerProcess


class LocalDevice(RunnerDevice):
    """Runs `runner.py` with this interpreter; subclasses name the runtime."""

    @contextmanager
    def _runner(self, threads: int) -> Iterator[RunnerProcess]:
        # -P: the runner's own folder holds modules named like the runtimes.
        command = [sys.executable, "-P", str(RUNNER)]
        with RunnerProcess(command, runner_environment(threads)) as runner:
            yield runner


def runner_environment(threads: int) -> dict[str, str]:
    """Returns the variables of a runner on this machine."""
    # Some libraries read their number of threads when they are imported, before the runner can set it.
    return {
        **os.environ,
        "OMP_NUM_THREADS": str(threads),
        "OPENBLAS_NUM_THREADS": "1",
    }
