"""Tables of measurements as matrices: one column of values per device, one row per network."""

import math
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from statistics import median
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from latency_predictors.finding import Finding
from latency_predictors.imported import VERDICTS, decode_architecture
from latency_predictors.lint import lint
from latency_predictors.measurement import DeviceProfile, Metric
from search_spaces.architecture import Architecture
from search_spaces.errors import InputError

Floats = NDArray[np.float64]
_CONDITIONS = ("runtime", "precision", "batch_size", "threads", "task")


@dataclass(frozen=True)
class DeviceColumn:
    """What one device under one set of conditions was measured at.

    Attributes:
        name: the device's, with its conditions where the tables have several of them.
        device: without.
        profile: id of its profile where the table states the precision, else the name.
        values: by network, in the unit of the metric asked for; the median of repeated measurements.
        noise: by network, their relative standard error; 0 where the table tells no interval.
    """

    name: str
    device: str
    profile: str
    values: dict[Architecture, float]
    noise: dict[Architecture, float]

    @property
    def family(self) -> str:
        """What shares its silicon: all batch sizes of a GPU and all runtimes of a board are one family."""
        return device_family(self.device)


def device_family(device: str) -> str:
    """Returns the family that a device's name tells.

    Example:
        >>> device_family("raspberry_pi_5/litert"), device_family("nvidia_v100_bs64")
        ('raspberry_pi_5', 'nvidia_v100')
    """
    return re.sub(r"_bs\d+$", "", device).split("/")[0]


def device_columns(
    tables: Sequence[pa.Table], space: str | None = None, metric: Metric = "latency_ms"
) -> tuple[list[DeviceColumn], list[Finding]]:
    """Returns the devices of tables, without the rows that the linter would not learn from, and what it found.

    Args:
        tables: in milliseconds, of `latency_predictors.table_file.read_table`.
        space: what ``arch`` is written in, where no column says it.
        metric: the column wanted; rows that do not have it are left out.

    Raises:
        InputError: a table lacks a column, or an architecture cannot be read.
    """
    findings: list[Finding] = []
    cells: dict[tuple[object, ...], dict[Architecture, list[tuple[float, float]]]] = {}
    decoded: dict[tuple[str, str], Architecture] = {}
    for table in tables:
        found = lint(table)
        findings.extend(found)
        refused = {row for finding in found if finding.rule not in VERDICTS for row in finding.rows}
        for number, row in enumerate(table.to_pylist()):
            if number in refused or row.get("verdict") == "refused":
                continue
            cost = _value(row, metric)
            if cost is None:
                continue
            written = (row["arch"], row.get("space") or space or "")
            if not written[1]:
                raise InputError("no column names the space of the architectures: give --space")
            if written not in decoded:
                decoded[written] = decode_architecture(*written)
            key = (row["device"], *(row.get(name) for name in _CONDITIONS))
            cells.setdefault(key, {}).setdefault(decoded[written], []).append(cost)
    return list(_named(cells)), findings


def complete_rows(columns: Sequence[DeviceColumn]) -> tuple[list[Architecture], Floats]:
    """Returns the networks that every device was measured with, and their values ``(n, D)``."""
    shared = [a for a in columns[0].values if all(a in column.values for column in columns)]
    return shared, np.array([[column.values[a] for column in columns] for a in shared]).reshape(-1, len(columns))


def _value(row: Mapping[str, Any], metric: Metric) -> tuple[float, float] | None:  # Any: cells of a table
    """Returns a row's value of the metric and its relative standard error; None where it has none above zero."""
    if metric != "latency_ms":
        value = row.get(metric)
        return (value, 0.0) if value and math.isfinite(value) and value > 0 else None
    latency = row.get("latency_ms") or 1000 / row["throughput_ips"]
    upper = row.get("upper_ms")
    # A normal distribution's 95 % interval reaches 1.96 standard errors to each side.
    return latency, max(0.0, upper / latency - 1) / 1.96 if upper and math.isfinite(upper) else 0.0


def _named(cells: dict[tuple[object, ...], dict[Architecture, list[tuple[float, float]]]]) -> Iterator[DeviceColumn]:
    for key, values in cells.items():
        device, conditions = str(key[0]), key[1:]
        others = [other[1:] for other in cells if other[0] == key[0]]
        differing = [str(own) for own, *held in zip(conditions, *others, strict=True) if len(set(held)) > 1]
        _, precision, _, threads, _ = conditions
        name = "/".join([device, *differing])
        profile = DeviceProfile(device, precision, int(str(threads or 1))).id if precision in {"fp32", "int8"} else name
        medians, noise = (
            {a: float(median(pair[part] for pair in found)) for a, found in values.items()} for part in (0, 1)
        )
        yield DeviceColumn(name, device, profile, medians, noise)
