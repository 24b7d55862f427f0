"""The contract between the measuring protocol and a device."""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from latency_predictors.environment import Environment
from latency_predictors.graphs.model_file import Runtime
from search_spaces.cost import Precision
from search_spaces.errors import HwnasError


class DeviceError(HwnasError, RuntimeError):
    """A device cannot measure anything: its runtime is missing, it cannot be reached, it has too few cores."""


class DeviceHungError(DeviceError):
    """A device that should answer does not; what hung was ended."""


@dataclass(frozen=True)
class BlockPlan:
    """How each model of a block is timed; the runner's module says what the words mean.

    Attributes:
        window_ms: quiet time to collect, in which single inferences are timed.
        min_inferences: quiet inferences to collect.
        patience: give up after this many times the time that a wholly quiet window takes.
        warmup_ms: at most, before timing.
        timeout_seconds: for one model, loading included; after it the process is killed.
        probe_floor_ns: the fastest speed probe known from earlier blocks, None for none.
        energy_seconds: length of the window in which energy is counted, once for each model and once at rest; 0 for no
            energy.
    """

    window_ms: float
    min_inferences: int
    patience: float
    warmup_ms: float
    timeout_seconds: float
    probe_floor_ns: int | None = None
    energy_seconds: float = 0

    def __post_init__(self) -> None:
        if min(self.window_ms, self.min_inferences, self.warmup_ms, self.timeout_seconds) <= 0 or self.patience < 1:
            raise ValueError(f"times and counts must be above zero and patience at least 1, got {self}")


@dataclass(frozen=True)
class Timing:
    """One model in one block.

    Attributes:
        load_ms: from the file to the first inference.
        first_inference_ms: the first one, before any warm-up.
        inferences: how many quiet ones were timed.
        quiet_share: share of the timed bursts in which the core ran undisturbed, 0 to 1.
        median_ms: of the quiet inferences; None where there were too few.
        p90_ms: likewise, 90th percentile; None also where the device does not tell.
        probe_ns: median of the speed probes beside the quiet inferences: a fixed piece of work, longer on a slower
            core; None as `p90_ms`.
        peak_memory_mb: the most that the process had resident (10^6 bytes) beyond what it had before the model was
            loaded; None where the system does not tell.
        energy_mj: of one inference, beyond what the machine draws at rest, in millijoules; None where it was not asked
            for, cannot be told, or does not stand out from rest.
        energy_source: the counter that told it.
    """

    load_ms: float
    first_inference_ms: float
    inferences: int
    quiet_share: float
    median_ms: float | None
    p90_ms: float | None
    probe_ns: int | None
    peak_memory_mb: float | None = None
    energy_mj: float | None = None
    energy_source: str | None = None

    def __post_init__(self) -> None:
        if min(self.load_ms, self.first_inference_ms) <= 0 or not 0 <= self.quiet_share <= 1:
            raise ValueError(f"times must be above zero and shares within 0 to 1, got {self}")
        if self.peak_memory_mb is not None and self.peak_memory_mb < 0:
            raise ValueError(f"peak memory must not be below zero, got {self}")
        if self.energy_mj is not None and not self.energy_mj > 0:
            raise ValueError(f"energy must be above zero or None, got {self}")
        if self.median_ms is None and (self.p90_ms is not None or self.probe_ns is not None):
            raise ValueError(f"without a median there is no 90th percentile and no probe, got {self}")
        if self.median_ms is not None and not 0 < self.median_ms <= (self.p90_ms or self.median_ms):
            raise ValueError(f"the median must be above zero and the 90th percentile not below it, got {self}")


@dataclass(frozen=True)
class BlockResult:
    """What became of one model in one block.

    Attributes:
        model: the file.
        timing: None where the model failed.
        failure: why, in words; empty where it was timed.
        hung: whether the failure is that it did not end in its time.
    """

    model: Path
    timing: Timing | None
    failure: str = ""
    hung: bool = False

    def __post_init__(self) -> None:
        if (self.timing is None) != bool(self.failure):
            raise ValueError(f"a result is a timing or a failure, got {self}")


@dataclass(frozen=True)
class Block:
    """One process launch.

    Attributes:
        environment: as the launched process saw it.
        probe_floor_ns: the fastest speed probe of this launch; None where the device has none.
        seconds: that the launch took, waiting for its turn not included.
        results: one per model, in the order given. Shorter than the list of models where the process ended early; the
            last one is then the model that ended it.
    """

    environment: Environment
    probe_floor_ns: int | None
    seconds: float
    results: tuple[BlockResult, ...]


class Device(ABC):
    """Something that runs model files and can be timed.

    The measuring protocol (`latency_predictors.protocol`) is the only caller of `measure_block`. An instance is small,
    holds no open resources between calls and may be pickled to another process; calls never overlap in one instance.
    A device that several processes can reach must make them wait for each other inside `measure_block`, because two
    measurements at once disturb each other.

    Attributes:
        name: as in `DeviceProfile.device`; what it is, which one, the runtime: ``local/litert``, ``ssh/pi/litert``. A
            class of devices that users name has words in capitals there: ``ssh/HOST/litert``.
        runtime: name of the inference runtime.
        suffix: of the model files it runs, such as ``.tflite``.
        precisions: of the model files it runs.
    """

    name: str
    runtime: Runtime
    suffix: str
    precisions: tuple[Precision, ...] = ("fp32", "int8")

    @abstractmethod
    def measure_block(self, models: Sequence[Path], *, threads: int, plan: BlockPlan) -> Block:
        """Times models, one after the other, in one fresh process on the device.

        A model that cannot be loaded or run becomes a failed result and the next one is timed. A model that hangs
        longer than ``plan.timeout_seconds``, or takes the process down, becomes the last result: the process is ended
        (by its own id where it is local), and the caller decides about the rest. No process survives this call,
        whether it returns or raises.

        Args:
            models: files with this device's suffix; one may occur several times; none to ask for the environment.
            threads: of the runtime, each pinned to a core of its own.
            plan: how each model is timed.

        Raises:
            DeviceError: the process could not be started, or not with that many threads.
            DeviceHungError: it did not start in time.
        """

    @abstractmethod
    def reference(self, precision: Precision) -> Path:
        """Returns the file of the frozen reference network, the same bytes in every release."""

    def environment(self, *, threads: int = 1) -> Environment:
        """Returns the environment that a block would be measured in.

        Raises:
            DeviceError: as `measure_block`.
        """
        plan = BlockPlan(window_ms=1, min_inferences=1, patience=1, warmup_ms=1, timeout_seconds=60)
        return self.measure_block([], threads=threads, plan=plan).environment
