"""Devices that `runner.py` measures, as a child process here or at the far end of a connection."""

import logging
import time
from abc import abstractmethod
from collections.abc import Sequence
from contextlib import AbstractContextManager
from functools import cache
from pathlib import Path

from latency_predictors.devices.base import Block, BlockPlan, BlockResult, Device, DeviceError, DeviceHungError, Timing
from latency_predictors.devices.lease import lease
from latency_predictors.devices.runner_process import RunnerEndedError, RunnerProcess
from latency_predictors.environment import Environment
from search_spaces.cost import Precision

logger = logging.getLogger(__name__)

RUNNER = Path(__file__).with_name("runner.py")
ENERGY = Path(__file__).with_name("energy.py")
REFERENCES = Path(__file__).with_name("reference")
START_SECONDS = 120.0
"""For the interpreter and the runtime to start, on a busy machine."""


class RunnerDevice(Device):
    """Holds the conversation with the runner; subclasses say where it runs and how it gets its files.

    Attributes:
        machine: that the device is part of, for its lease.
    """

    machine = ""

    def measure_block(self, models: Sequence[Path], *, threads: int, plan: BlockPlan) -> Block:
        """As `Device.measure_block`; those who measure on one machine at once wait for each other."""
        with lease(self.name, self.machine) as leased, self._runner(threads) as runner:
            started = time.monotonic()
            leased.renew(START_SECONDS + plan.energy_seconds)
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
                        "energy_seconds": plan.energy_seconds,
                    },
                    START_SECONDS + plan.energy_seconds,
                )
            except RunnerEndedError as ended:
                self._check_connection(ended)
                raise self._not_started(ended) from None
            if start.get("error"):
                raise DeviceError(f"device {self.name} cannot measure: {start['error']}{self._mend_of(start['error'])}")
            if start["no_energy"]:
                _warn_once(f"{self.name}: energy cannot be told: {start['no_energy']}")
            results: list[BlockResult] = []
            floor = int(start["probe_floor_ns"])
            for model in models:
                leased.renew(plan.timeout_seconds + plan.energy_seconds)
                try:
                    answer = runner.ask(
                        {"model": self._place(runner, model)}, plan.timeout_seconds + plan.energy_seconds
                    )
                except OSError as error:  # the file cannot be read here
                    results.append(BlockResult(model, None, f"{type(error).__name__}: {error}"))
                    continue
                except RunnerEndedError as ended:
                    self._check_connection(ended)
                    results.append(BlockResult(model, None, str(ended), hung=ended.status is None))
                    break
                floor = answer.pop("probe_floor_ns")
                failure = answer.pop("error", "")
                results.append(BlockResult(model, None if failure else Timing(**answer), failure))
            seconds = time.monotonic() - started
        return Block(Environment(**start["environment"]), floor, seconds, tuple(results))

    def reference(self, precision: Precision) -> Path:
        """As `Device.reference`."""
        return REFERENCES / f"{precision}{self.suffix}"

    @abstractmethod
    def _runner(self, threads: int) -> AbstractContextManager[RunnerProcess]:
        """Returns a context in which a fresh runner has its turn on the machine; it is gone afterwards.

        Raises:
            DeviceError: on entering, where the machine cannot be reached.
        """

    def _place(self, runner: RunnerProcess, model: Path) -> str:
        """Returns where the runner finds a model.

        Raises:
            OSError: the file cannot be read.
            RunnerEndedError: the runner is gone.
        """
        return str(model.resolve())

    def _check_connection(self, ended: RunnerEndedError) -> None:
        """Raises DeviceError where the connection ended and not the runner."""

    def _not_started(self, ended: RunnerEndedError) -> DeviceError:
        kind = DeviceHungError if ended.status is None else DeviceError
        return kind(f"device {self.name} did not start: {ended}{self._mend_of(str(ended))}")

    def _mend_of(self, error: str) -> str:
        return self._mend() if "No module named" in error else ""

    def _mend(self) -> str:
        """Returns what to add to the error that the runtime, or numpy, is not installed."""
        return ""


@cache
def _warn_once(text: str) -> None:
    logger.warning(text)
