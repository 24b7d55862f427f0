"""Measurement: the latency of one network on one device profile, with everything needed to judge it later.

The Parquet columns are those that latency tables commonly have (``space, arch, arch_id, device, runtime, precision,
batch_size, latency_ms, kind``) and what this product adds: the interval, the raw block medians, protocol, environment
and verdict. One row is one measurement, refused ones included.
"""

import dataclasses
import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import lru_cache
from typing import Any, Literal, Self, cast, get_args

import pyarrow as pa

from latency_predictors.environment import Environment
from latency_predictors.statistics import Verdict
from search_spaces.architecture import Architecture
from search_spaces.cost import Precision
from search_spaces.errors import InputError

FORMAT_VERSION = "1"
"""Of the Parquet columns; stored in the files' metadata."""
Metric = Literal["latency_ms", "energy_mj", "peak_memory_mb"]
"""The columns that a predictor can be fitted to, each for itself."""
KIND = "measured"
"""As opposed to estimated, simulated or summed latencies, which other tables hold."""


@dataclass(frozen=True)
class DeviceProfile:
    """A device as networks meet it: the runtime on its processor, the precision of the files, the threads.

    Attributes:
        device: a name that `latency_predictors.devices.get_device` takes, such as ``local/onnxruntime``.
        precision: of weights and feature maps.
        threads: of the runtime, each on a core of its own.

    Example:
        >>> DeviceProfile("local/litert", "int8").id
        'local/litert/int8/1-thread'
    """

    device: str
    precision: Precision = "fp32"
    threads: int = 1

    def __post_init__(self) -> None:
        if not self.device or self.device != self.device.strip():
            raise InputError(f"a device must have a name, such as local/onnxruntime, got {self.device!r}")
        if self.precision not in get_args(Precision):
            raise InputError(f"precision must be one of {', '.join(get_args(Precision))}, got {self.precision!r}")
        if self.threads < 1:
            raise InputError(f"threads must be at least 1, got {self.threads}")

    @property
    def id(self) -> str:
        """As shown to people."""
        return f"{self.device}/{self.precision}/{self.threads}-thread{'s' * (self.threads > 1)}"

    def is_meant_by(self, device: str) -> bool:
        """Returns whether a predictor's device is this: its `id`, or the device where no table told the precision.

        Example:
            >>> DeviceProfile("phone").is_meant_by("phone"), DeviceProfile("phone").is_meant_by("phone/int8/1-thread")
            (True, False)
        """
        return device in {self.id, self.device}

    @classmethod
    def of_id(cls, text: str) -> Self:
        """Returns the profile of an `id`.

        Raises:
            InputError: it is none.

        Example:
            >>> DeviceProfile.of_id("local/litert/int8/1-thread")
            DeviceProfile(device='local/litert', precision='int8', threads=1)
        """
        match = re.fullmatch(rf"(.+)/({'|'.join(get_args(Precision))})/([1-9]\d*)-threads?", text)
        if not match:
            raise InputError(f"a device profile is written DEVICE/PRECISION/N-threads, got {text!r}")
        return cls(match[1], cast(Precision, match[2]), int(match[3]))


@dataclass(frozen=True)
class Measurement:
    """The latency of one network, batch 1; times in milliseconds.

    Attributes:
        key: the architecture's key, or the name of a finished file.
        architecture: None for a file of unknown origin.
        network_hash: twelve hexadecimal digits of the SHA-256 of the layers, or of the finished file; the same key
            can name different networks when images or classes differ.
        profile: what it was measured on.
        environment: the machine and its software.
        runtime: name of the inference runtime, ``onnxruntime`` or ``litert``.
        preset: how carefully; a name of `latency_predictors.preset.PRESETS`.
        protocol_version: of the rules in `latency_predictors.protocol`.
        seed: of the order in which networks were measured, and of random weights.
        verdict: accepted, noisy (use with lower weight) or refused (do not use).
        reason: why it is not accepted, in words; empty where it is.
        measured_at: end of the last block, UTC.
        model_bytes: size of the model file.
        latency_ms: geometric mean of the block medians; None where no block counts, as all that follows.
        lower_ms: lower end of the 95 % interval.
        upper_ms: upper end of the 95 % interval.
        p50_ms: median over blocks of their medians.
        p90_ms: median over blocks of their 90th percentiles.
        block_medians_ms: of the blocks that count, in the order measured.
        first_inference_ms: median over blocks of the first inference after loading.
        load_ms: median over blocks of reading the file and preparing to run it.
        peak_memory_mb: median over blocks of the resident memory (10^6 bytes) that the network added at its peak; None
            where the device does not tell.
        energy_mj: median over blocks of the millijoules of one inference beyond the machine at rest; None where they
            were not asked for or cannot be told.
        energy_source: the counter that told them.
        quiet_share: share of the time, over all blocks, in which the core ran undisturbed.
        reference_ms: median latency of the frozen reference network in the same blocks.
    """

    key: str
    architecture: Architecture | None
    network_hash: str
    profile: DeviceProfile
    environment: Environment
    runtime: str
    preset: str
    protocol_version: int
    seed: int
    verdict: Verdict
    reason: str
    measured_at: datetime
    model_bytes: int
    latency_ms: float | None = None
    lower_ms: float | None = None
    upper_ms: float | None = None
    p50_ms: float | None = None
    p90_ms: float | None = None
    block_medians_ms: tuple[float, ...] = ()
    first_inference_ms: float | None = None
    load_ms: float | None = None
    peak_memory_mb: float | None = None
    energy_mj: float | None = None
    energy_source: str | None = None
    quiet_share: float | None = None
    reference_ms: float | None = None

    def __post_init__(self) -> None:
        if self.verdict not in get_args(Verdict):
            raise ValueError(f"{self.key}: verdict must be one of {get_args(Verdict)}, got {self.verdict!r}")
        if (self.verdict == "accepted") != (self.reason == ""):
            raise ValueError(f"{self.key}: what is not accepted, and only that, has a reason, got {self.reason!r}")
        if self.architecture and self.architecture.key != self.key:
            raise ValueError(f"the architecture's key is {self.architecture.key}, got {self.key=}")
        if self.measured_at.tzinfo is None:
            raise ValueError(f"{self.key}: measured_at must name its time zone, got {self.measured_at}")
        for field in dataclasses.fields(self):
            value = getattr(self, field.name)
            if field.name.endswith("_ms") and isinstance(value, float) and not (math.isfinite(value) and value > 0):
                raise ValueError(f"{self.key}: {field.name} must be above zero, got {value}")
        if self.energy_mj is not None and not (math.isfinite(self.energy_mj) and self.energy_mj > 0):
            raise ValueError(f"{self.key}: energy_mj must be above zero, got {self.energy_mj}")
        if self.peak_memory_mb is not None and not (math.isfinite(self.peak_memory_mb) and self.peak_memory_mb >= 0):
            raise ValueError(f"{self.key}: peak_memory_mb must be at least 0, got {self.peak_memory_mb}")
        if not all(math.isfinite(value) and value > 0 for value in self.block_medians_ms):
            raise ValueError(f"{self.key}: block medians must be above zero, got {self.block_medians_ms}")
        if self.latency_ms is None or self.lower_ms is None or self.upper_ms is None:
            if self.verdict != "refused":
                raise ValueError(f"{self.key}: {self.verdict}, but it has no latency or no interval")
        elif not self.lower_ms <= self.latency_ms <= self.upper_ms:
            raise ValueError(f"{self.key}: {self.latency_ms=} must lie in [{self.lower_ms}, {self.upper_ms}]")

    @property
    def usable(self) -> bool:
        """Whether the verdict is accepted or noisy."""
        return self.verdict != "refused"

    @property
    def half_width(self) -> float:
        """Relative half-width of the interval; infinite where there is none."""
        return self.upper_ms / self.latency_ms - 1 if self.upper_ms and self.latency_ms else math.inf

    @property
    def standard_error(self) -> float:
        """Relative standard error: a normal distribution's 95 % interval reaches 1.96 of them to each side."""
        return self.half_width / 1.96

    def to_row(self) -> dict[str, object]:
        """Returns the values of the Parquet columns."""
        row = {name: getattr(self, name) for name in _PLAIN_COLUMNS}
        return row | {
            "space": self.architecture.space if self.architecture else None,
            "arch": self.architecture.to_json() if self.architecture else None,
            "arch_id": self.key,
            "device": self.profile.device,
            "precision": self.profile.precision,
            "threads": self.profile.threads,
            "batch_size": 1,
            "kind": KIND,
            "block_medians_ms": list(self.block_medians_ms),
            "environment": self.environment.to_json(),
            "environment_hash": self.environment.hash,
            "runtime_version": self.environment.runtime,
        }

    @classmethod
    def from_row(cls, row: Mapping[str, Any]) -> Self:  # Any: the values of Parquet columns
        """Returns the measurement of a row.

        Raises:
            ValueError: a value breaks a rule.
        """
        return cls(
            **{name: row[name] for name in _PLAIN_COLUMNS},
            key=row["arch_id"],
            architecture=_architecture(row["arch"]),
            profile=DeviceProfile(row["device"], row["precision"], row["threads"]),
            environment=_environment(row["environment"]),
            block_medians_ms=tuple(row["block_medians_ms"]),
        )


# Sets repeat the same few values thousands of times.
@lru_cache(maxsize=64)
def _environment(text: str) -> Environment:
    return Environment.from_json(text)


def _architecture(text: str | None) -> Architecture | None:
    return None if text is None else Architecture.from_json(text)


SCHEMA = pa.schema(
    [
        pa.field("space", pa.string()),
        pa.field("arch", pa.string()),
        pa.field("arch_id", pa.string(), nullable=False),
        pa.field("network_hash", pa.string(), nullable=False),
        pa.field("device", pa.string(), nullable=False),
        pa.field("runtime", pa.string(), nullable=False),
        pa.field("runtime_version", pa.string(), nullable=False),
        pa.field("precision", pa.string(), nullable=False),
        pa.field("threads", pa.int32(), nullable=False),
        pa.field("batch_size", pa.int32(), nullable=False),
        pa.field("kind", pa.string(), nullable=False),
        pa.field("latency_ms", pa.float64()),
        pa.field("lower_ms", pa.float64()),
        pa.field("upper_ms", pa.float64()),
        pa.field("p50_ms", pa.float64()),
        pa.field("p90_ms", pa.float64()),
        pa.field("block_medians_ms", pa.list_(pa.field("item", pa.float64(), nullable=False)), nullable=False),
        pa.field("first_inference_ms", pa.float64()),
        pa.field("load_ms", pa.float64()),
        pa.field("peak_memory_mb", pa.float64()),
        pa.field("energy_mj", pa.float64()),
        pa.field("energy_source", pa.string()),
        pa.field("quiet_share", pa.float64()),
        pa.field("reference_ms", pa.float64()),
        pa.field("model_bytes", pa.int64(), nullable=False),
        pa.field("preset", pa.string(), nullable=False),
        pa.field("protocol_version", pa.int32(), nullable=False),
        pa.field("seed", pa.int64(), nullable=False),
        pa.field("environment", pa.string(), nullable=False),
        pa.field("environment_hash", pa.string(), nullable=False),
        pa.field("measured_at", pa.timestamp("us", tz="UTC"), nullable=False),
        pa.field("verdict", pa.string(), nullable=False),
        pa.field("reason", pa.string(), nullable=False),
    ],
    metadata={"hwnas_measurements": FORMAT_VERSION},
)
"""The columns of a measurement set."""

_PLAIN_COLUMNS = tuple(
    field.name
    for field in dataclasses.fields(Measurement)
    if field.name in SCHEMA.names and field.name not in {"environment", "block_medians_ms"}
)
"""The columns that hold an attribute as it is."""


def now() -> datetime:
    """Returns the time in UTC, to the microsecond that Parquet keeps."""
    return datetime.now(UTC)
