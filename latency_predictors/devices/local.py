"""Devices that are this machine: each block is a child process pinned to its own cores."""

import logging
import os
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from pathlib import Path

from latency_predictors.devices.base import Block, BlockPlan, BlockResult, Device, DeviceError, Timing
from latency_predictors.devices.runner_process import RunnerEndedError, RunnerProcess
from latency_predictors.environment import Environment
from search_spaces.cost import Precision
from search_spaces.file_lock import FileHeldError, hold

logger = logging.getLogger(__name__)

RUNNER = Path(__file__).with_name("runner.py")
REFERENCES = Path(__file__).with_name("reference")
PAUSE_SECONDS = 0.05
"""Between two launches, for other processes to take their turn."""
PATIENCE_SECONDS = 120.0
"""How long to wait for a turn; launches of tens of models take seconds."""
START_SECONDS = 120.0
"""For the interpreter and the runtime to start, on a busy machine."""


class LocalDevice(Device):
    """Runs `runner.py` with this interpreter; subclasses name the runtime."""

    def measure_block(self, models: Sequence[Path], *, threads: int, plan: BlockPlan) -> Block:
        """As `Device.measure_block`; measuring processes of this user on this machine wait for each other."""
        # -P: the runner's own folder holds modules named like the runtimes.
        command = [sys.executable, "-P", str(RUNNER)]
        with _alone(), RunnerProcess(command, _environment(threads)) as runner:
            started = time.monotonic()
            try:
                start = runner.ask(
                    {
                        "runtime": self.runtime,
                        "threads": threads,
                        "window_ms": plan.window_ms,
                        "min_inferences": plan.min_inferences,
                        "patience": plan.patience,
                        "warmup_ms": plan.warmup_ms,
                        "timeout_seconds": plan.timeout_seconds,
                        "probe_floor_ns": plan.probe_floor_ns,
                    },
                    START_SECONDS,
                )
            except RunnerEndedError as ended:
                raise DeviceError(f"device {self.name} did not start: {ended}") from None
            if start.get("error"):
                raise DeviceError(f"device {self.name} cannot measure: {start['error']}")
            results: list[BlockResult] = []
            floor = int(start["probe_floor_ns"])
            for model in models:
                try:
                    answer = runner.ask({"model": str(model.resolve())}, plan.timeout_seconds)
                except RunnerEndedError as ended:
                    results.append(BlockResult(model, None, str(ended)))
                    break
                floor = answer.pop("probe_floor_ns")
                failure = answer.pop("error", "")
                results.append(BlockResult(model, None if failure else Timing(**answer), failure))
            seconds = time.monotonic() - started
        return Block(Environment(**start["environment"]), floor, seconds, tuple(results))

    def reference(self, precision: Precision) -> Path:
        """As `Device.reference`."""
        return REFERENCES / f"{precision}{self.suffix}"


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
