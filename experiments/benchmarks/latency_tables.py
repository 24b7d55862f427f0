"""Measurement tables in the shared schema as matrices: features of networks, and one column of values per device."""

import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
from nasbench201_cells import CELL_WORK, DEGENERATE_MS, cell_features, cell_work, one_hot
from numpy.typing import NDArray

from latency_predictors.device_columns import device_family
from latency_predictors.features import FEATURE_NAMES, network_features
from search_spaces.encodings import encoding, list_encodings

Floats = NDArray[np.float64]
Integers = NDArray[np.int64]


@dataclass(frozen=True)
class LatencyTable:
    """Networks that were measured on every device.

    Attributes:
        space: encoding of the architectures.
        features: ``(n, p)``.
        values: ``(n, D)`` milliseconds for one call.
        devices: D names.
        classes: of each device, its ``device_class``.
        groups: ``(n,)``; networks that compute the same function share a number.
        columns: p names of the features.
    """

    space: str
    features: Floats
    values: Floats
    devices: tuple[str, ...]
    classes: tuple[str, ...]
    groups: Integers
    columns: tuple[str, ...]

    @property
    def families(self) -> tuple[str, ...]:
        """Family of each device: all batch sizes of a GPU, all runtimes of a board are one."""
        return tuple(map(device_family, self.devices))


def load_table(path: Path, *, kinds: tuple[str, ...] | None = None) -> LatencyTable:
    """Returns the networks of a file that have a value on every device of it.

    Args:
        path: a Parquet file in the schema of the shared data.
        kinds: of rows to keep, such as ``("measured",)``; by default all.
    """
    cells: dict[str, dict[str, list[float]]] = {}
    devices: dict[str, str] = {}
    space = ""
    for row in pq.read_table(path).to_pylist():
        value = row["latency_ms"]
        if value is None or value != value:
            value = 1000 / row["throughput_ips"] if row.get("throughput_ips") else None
        if value is None or (kinds and row["kind"] not in kinds):
            continue
        space = row["space"]
        devices[row["device"]] = row.get("device_class") or ""
        cells.setdefault(row["arch"], {}).setdefault(row["device"], []).append(value)
    complete = [arch for arch, values in cells.items() if len(values) == len(devices)]
    values = np.array([[np.mean(cells[arch][device]) for device in devices] for arch in complete])
    if space == "nasbench201":
        alive = values.min(axis=1) >= DEGENERATE_MS
        complete, values = [arch for arch, good in zip(complete, alive, strict=True) if good], values[alive]
    vectors = np.array([json.loads(arch) for arch in complete])
    groups = _groups(path.with_name("nasbench201_accuracy.parquet"), complete) if space == "nasbench201" else None
    features, columns = vector_features(space, vectors)
    groups = np.arange(len(vectors)) if groups is None else groups
    return LatencyTable(space, features, values, tuple(devices), tuple(devices.values()), groups, columns)


def _groups(path: Path, architectures: list[str]) -> Integers | None:
    if not path.is_file():
        return None
    rows = pq.read_table(path, columns=["arch", "rep_arch_id"]).to_pylist()
    group = {row["arch"]: row["rep_arch_id"] for row in rows}
    return np.array([group.get(arch, -1 - index) for index, arch in enumerate(architectures)])


def vector_features(space: str, vectors: Integers) -> tuple[Floats, tuple[str, ...]]:
    """Returns features ``(n, p)`` of integer vectors and their names: choices, and what costs are summed over.

    An unknown encoding is taken as categories.
    """
    if space == "nasbench201":
        choices, physical, names = cell_features(vectors), cell_work(vectors), CELL_WORK
    elif space in list_encodings():
        public = encoding(space)
        layers = public.search_space.layers
        choices, names = one_hot(vectors), FEATURE_NAMES
        physical = network_features(layers(public.decode(vector)) for vector in vectors.tolist())
    else:
        choices, physical, names = one_hot(vectors), np.empty((len(vectors), 0)), ()
    return np.hstack([choices, physical]), (*(f"choice={number}" for number in range(choices.shape[1])), *names)
