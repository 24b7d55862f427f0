"""A device of known truth, for tests of the protocol and of sessions."""

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

from latency_predictors.devices.base import Block, BlockPlan, BlockResult, Device, Timing
from latency_predictors.environment import Environment
from search_spaces.cost import Precision

ENVIRONMENT = Environment("simulated", 1, "none", "Test 1", "3.11.0", "Simulation 1")
PROBE_NS = 5000
REFERENCE = Path("reference.onnx")


class SimulatedDevice(Device):
    """Draws block medians from a log-normal distribution around each file's true latency.

    Args:
        truth_ms: of a file; the reference network takes 0.1 ms.
        spread: standard deviation of log block medians; of the reference network at most 0.005.
        outliers: share of block medians that are ``outlier`` times the truth.
        outlier: their factor.
        slowness: factor of the reference network's latency in a launch, by its number.
        sensitivity: the other files' factor is that one to this power: what slows one network by 10 % slows another by
            3 or by 20 %.
        clock_told: whether the speed probe is slower by that factor too; else it sees nothing.
        quiet: whether a file's timing in a launch found quiet moments, by launch number and file.
        seconds_a_model: that each timing takes; by default a launch takes one second.
    """

    name = "local/onnxruntime"
    runtime = "onnxruntime"
    suffix = ".onnx"

    def __init__(
        self,
        *,
        truth_ms: Callable[[Path], float] = lambda path: 1.0,
        spread: float = 0.01,
        outliers: float = 0.0,
        outlier: float = 1.2,
        slowness: Callable[[int], float] = lambda launch: 1.0,
        sensitivity: float = 1.0,
        clock_told: bool = False,
        quiet: Callable[[int, Path], bool] = lambda launch, path: True,
        seconds_a_model: float | None = None,
        seed: int = 0,
    ) -> None:
        self.seconds_a_model = seconds_a_model
        self.truth_ms, self.spread, self.outliers, self.outlier = truth_ms, spread, outliers, outlier
        self.slowness, self.sensitivity, self.clock_told, self.quiet = slowness, sensitivity, clock_told, quiet
        self.failures: dict[Path, str] = {}
        self.hanging: set[Path] = set()
        self.launches: list[list[Path]] = []
        self.rng = np.random.default_rng(seed)

    def measure_block(self, models: Sequence[Path], *, threads: int, plan: BlockPlan) -> Block:
        results = []
        if models:
            self.launches.append(list(models))
        for model in models:
            if model in self.hanging:
                results.append(BlockResult(model, None, "no answer"))
                break
            failure = self.failures.get(model, "")
            results.append(BlockResult(model, None if failure else self._timing(model), failure))
        seconds = 1.0 if self.seconds_a_model is None else self.seconds_a_model * len(results)
        return Block(ENVIRONMENT, self._probe_ns(), seconds, tuple(results))

    def reference(self, precision: Precision) -> Path:
        return REFERENCE

    def _timing(self, model: Path) -> Timing:
        launch = len(self.launches) - 1
        if not self.quiet(launch, model):
            return Timing(1.0, 1.0, 0, 0.02, None, None, None)
        truth, spread = (0.1, min(self.spread, 0.005)) if model == REFERENCE else (self.truth_ms(model), self.spread)
        slowness = self.slowness(launch) ** (1 if model == REFERENCE else self.sensitivity)
        median = truth * slowness * float(np.exp(self.rng.normal(0, spread)))
        if model != REFERENCE and self.rng.random() < self.outliers:
            median *= self.outlier
        return Timing(2.0, 1.5 * median, 100, 1.0, median, 1.1 * median, self._probe_ns(), 3.0)

    def _probe_ns(self) -> int:
        return round(PROBE_NS * self.slowness(len(self.launches) - 1)) if self.clock_told else PROBE_NS
