"""Tables of measurements as matrices: one column of values per device, one row per network."""

import math
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from statistics import median
from typing import Any, cast, get_args

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from latency_predictors.architecture_cell import UnknownNetworkError, decode_architecture
from latency_predictors.finding import Finding
from latency_predictors.imported import VERDICTS
from latency_predictors.lint import lint
from latency_predictors.measured_column import latencies_ms, number_of, processors
from latency_predictors.measurement import DeviceProfile, Metric
from search_spaces.architecture import Architecture
from search_spaces.cost import Precision
from search_spaces.errors import InputError

Floats = NDArray[np.float64]
_CONDITIONS = ("runtime", "precision", "batch_size", "threads", "task")
_HERE, _ELSEWHERE = ("local", "cuda"), ("ssh", "adb")
"""First words of this product's names of devices (`latency_predictors.devices`); the second names the machine."""


@dataclass(frozen=True)
class DeviceColumn:
    """What one device under one set of conditions was measured at.

    Attributes:
        name: the device's, with its conditions where the tables have several of them.
        device: without.
        profile: id of its profile where the table states the precision, else the device alone.
        processor: where the tables tell it.
        values: by network, in the unit of the metric asked for; the median of repeated measurements.
        noise: by network, their relative standard error; 0 where the table tells no interval.
    """

    name: str
    device: str
    profile: str
    processor: str | None
    values: dict[Architecture, float]
    noise: dict[Architecture, float]

    @property
    def family(self) -> str:
        """What shares its silicon: all batch sizes of a GPU and all runtimes of a machine are one family."""
        return device_family(self.device, self.processor)


def device_family(device: str, processor: str | None = None) -> str:
    """Returns the family that a device's name tells, and for a name of this product its processor.

    A name such as ``local/litert`` means another machine wherever it was measured.

    Example:
        >>> device_family("raspberry_pi_5/litert"), device_family("nvidia_v100_bs64"), device_family("ssh/pi4/litert")
        ('raspberry_pi_5', 'nvidia_v100', 'ssh/pi4')
    """
    first, *words = device.split("/")
    if first in _ELSEWHERE and words:
        first = f"{first}/{words[0]}"
    elif first not in _HERE:
        return re.sub(r"_bs\d+$", "", device).split("/")[0]
    return f"{first}/{processor}" if processor else first


def device_columns(
    tables: Sequence[pa.Table], space: str | None = None, metric: Metric = "latency_ms"
) -> tuple[list[DeviceColumn], list[Finding]]:
    """Returns the devices of tables, without the rows that the linter would not learn from, and what it found.

    Rows that name a network which this product cannot build are left out, too.

    Args:
        tables: in milliseconds, of `latency_predictors.table_file.read_table`.
        space: what ``arch`` is written in, where no column says it.
        metric: the column wanted; rows that do not have it are left out.

    Raises:
        InputError: a table lacks a column, or a vector cannot be read.
    """
    findings: list[Finding] = []
    cells: dict[tuple[object, ...], dict[Architecture, list[tuple[float, float]]]] = {}
    decoded: dict[tuple[str, str, float | None], Architecture | None] = {}
    for table in tables:
        found = lint(table)
        findings.extend(found)
        refused = {row for finding in found if finding.rule not in VERDICTS for row in finding.rows}
        rows = zip(table.to_pylist(), latencies_ms(table).tolist(), processors(table), strict=True)
        for number, (row, latency, processor) in enumerate(rows):
            if number in refused or row.get("verdict") == "refused":
                continue
            cost = _cost(row, latency, metric)
            if cost is None:
                continue
            written = (row["arch"], row.get("space") or space or "", number_of(row.get("image_size")))
            if not written[1]:
                raise InputError("no column names the space of the architectures: give --space")
            if written not in decoded:
                decoded[written] = _decoded(*written)
            architecture = decoded[written]
            if architecture is not None:
                key = (row["device"], processor, *(row.get(name) for name in _CONDITIONS))
                cells.setdefault(key, {}).setdefault(architecture, []).append(cost)
    return list(_named(cells)), findings


def complete_rows(columns: Sequence[DeviceColumn]) -> tuple[list[Architecture], Floats]:
    """Returns the networks that every device was measured with, and their values ``(n, D)``."""
    shared = [a for a in columns[0].values if all(a in column.values for column in columns)]
    return shared, np.array([[column.values[a] for column in columns] for a in shared]).reshape(-1, len(columns))


def _cost(row: Mapping[str, Any], latency_ms: float, metric: Metric) -> tuple[float, float] | None:
    """Returns a row's value of the metric and its relative standard error; None where it has none above zero.

    Args:
        row: cells of a table, by column.
        latency_ms: of the row.
        metric: wanted.
    """
    if metric != "latency_ms":
        value = row.get(metric)
        return (value, 0.0) if value and math.isfinite(value) and value > 0 else None
    upper = row.get("upper_ms")
    # A normal distribution's 95 % interval reaches 1.96 standard errors to each side.
    return latency_ms, max(0.0, upper / latency_ms - 1) / 1.96 if upper and math.isfinite(upper) else 0.0


def _decoded(text: str, space: str, image_size: float | None) -> Architecture | None:
    try:
        return decode_architecture(text, space, None if image_size is None else int(image_size))
    except UnknownNetworkError:
        return None


def _named(cells: dict[tuple[object, ...], dict[Architecture, list[tuple[float, float]]]]) -> Iterator[DeviceColumn]:
    for key, values in cells.items():
        device, conditions = str(key[0]), key[1:]
        others = [other[1:] for other in cells if other[0] == key[0]]
        differing = [str(own) for own, *held in zip(conditions, *others, strict=True) if len(set(held)) > 1]
        processor, _, precision, _, threads, _ = conditions
        # A predictor's name may not have the spaces and brackets of a processor's.
        name = "/".join([device, *(re.sub(r"[^A-Za-z0-9._-]+", "_", text).strip("_") for text in differing)])
        profile = device
        if precision in get_args(Precision):
            profile = DeviceProfile(device, cast(Precision, precision), int(number_of(threads) or 1)).id
        medians, noise = (
            {a: float(median(pair[part] for pair in found)) for a, found in values.items()} for part in (0, 1)
        )
        yield DeviceColumn(name, device, profile, None if processor is None else str(processor), medians, noise)
