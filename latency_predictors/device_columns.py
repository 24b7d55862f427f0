"""Tables of measurements as matrices: one column of values per device, one row per network."""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from statistics import median

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from latency_predictors.finding import Finding
from latency_predictors.imported import VERDICTS, decode_architecture
from latency_predictors.lint import lint
from latency_predictors.measurement import DeviceProfile
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
        latencies_ms: by network; the median of repeated measurements.
    """

    name: str
    device: str
    profile: str
    latencies_ms: dict[Architecture, float]

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


def device_columns(tables: Sequence[pa.Table], space: str | None = None) -> tuple[list[DeviceColumn], list[Finding]]:
    """Returns the devices of tables, without the rows that the linter would not learn from, and what it found.

    Args:
        tables: in milliseconds, of `latency_predictors.table_file.read_table`.
        space: what ``arch`` is written in, where no column says it.

    Raises:
        InputError: a table lacks a column, or an architecture cannot be read.
    """
    findings: list[Finding] = []
    cells: dict[tuple[object, ...], dict[Architecture, list[float]]] = {}
    decoded: dict[tuple[str, str], Architecture] = {}
    for table in tables:
        found = lint(table)
        findings.extend(found)
        refused = {row for finding in found if finding.rule not in VERDICTS for row in finding.rows}
        for number, row in enumerate(table.to_pylist()):
            if number in refused or row.get("verdict") == "refused":
                continue
            written = (row["arch"], row.get("space") or space or "")
            if not written[1]:
                raise InputError("no column names the space of the architectures: give --space")
            if written not in decoded:
                decoded[written] = decode_architecture(*written)
            key = (row["device"], *(row.get(name) for name in _CONDITIONS))
            latency = row.get("latency_ms") or 1000 / row["throughput_ips"]
            cells.setdefault(key, {}).setdefault(decoded[written], []).append(latency)
    return list(_named(cells)), findings


def complete_rows(columns: Sequence[DeviceColumn]) -> tuple[list[Architecture], Floats]:
    """Returns the networks that every device was measured with, and their latencies ``(n, D)``."""
    shared = [a for a in columns[0].latencies_ms if all(a in column.latencies_ms for column in columns)]
    return shared, np.array([[column.latencies_ms[a] for column in columns] for a in shared]).reshape(-1, len(columns))


def _named(cells: dict[tuple[object, ...], dict[Architecture, list[float]]]) -> Iterator[DeviceColumn]:
    for key, values in cells.items():
        device, conditions = str(key[0]), key[1:]
        others = [other[1:] for other in cells if other[0] == key[0]]
        differing = [str(own) for own, *held in zip(conditions, *others, strict=True) if len(set(held)) > 1]
        _, precision, _, threads, _ = conditions
        name = "/".join([device, *differing])
        profile = DeviceProfile(device, precision, int(str(threads or 1))).id if precision in {"fp32", "int8"} else name
        yield DeviceColumn(name, device, profile, {a: float(median(found)) for a, found in values.items()})
