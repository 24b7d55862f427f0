"""Measurement tables in the shared schema as matrices: features of networks, and one column of values per device."""

import json
from dataclasses import dataclass
from functools import cache
from itertools import combinations, product
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
from numpy.typing import NDArray

from latency_predictors.device_columns import device_family
from latency_predictors.features import FEATURE_NAMES, network_features
from search_spaces.encodings import encoding, list_encodings

Floats = NDArray[np.float64]
Integers = NDArray[np.int64]

DEGENERATE_MS = 0.3
"""NAS-Bench-201 cells under this are networks whose output does not depend on the input."""
_EDGES = ((0, 1), (0, 2), (1, 2), (0, 3), (1, 3), (2, 3))
_PATHS = ((3,), (1, 5), (0, 4), (0, 2, 5))
_OPERATIONS = ("none", "skip", "conv_1x1", "conv_3x3", "pool")
_COUNTED = (2, 3, 4)  # of the operations, those that compute
CELL_WORK = (
    *(f"written.{operation}" for operation in _OPERATIONS),
    *(f"live.{operation}" for operation in _OPERATIONS[1:]),
    *(f"once.{operation}" for operation in _OPERATIONS[2:]),
    *(f"chain.{operation}" for operation in _OPERATIONS[2:]),
)
"""What a runtime does for a cell: every edge as written (frameworks that go line by line), the edges that matter to the
output, each different computation once (compilers share pools of one input), the longest chain (edges in parallel).
"""


@dataclass(frozen=True)
class LatencyTable:
    """Networks that were measured on every device.

    Attributes:
        space: encoding of the architectures.
        features: ``(n, p)``.
        values: ``(n, D)`` milliseconds for one call.
        devices: D names.
        groups: ``(n,)``; networks that compute the same function share a number.
        columns: p names of the features.
    """

    space: str
    features: Floats
    values: Floats
    devices: tuple[str, ...]
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
    devices: dict[str, None] = {}
    space = ""
    for row in pq.read_table(path).to_pylist():
        value = row["latency_ms"]
        if value is None or value != value:
            value = 1000 / row["throughput_ips"] if row.get("throughput_ips") else None
        if value is None or (kinds and row["kind"] not in kinds):
            continue
        space = row["space"]
        devices[row["device"]] = None
        cells.setdefault(row["arch"], {}).setdefault(row["device"], []).append(value)
    complete = [arch for arch, values in cells.items() if len(values) == len(devices)]
    values = np.array([[np.mean(cells[arch][device]) for device in devices] for arch in complete])
    if space == "nasbench201":
        alive = (values >= DEGENERATE_MS).all(axis=1)
        complete, values = [arch for arch, good in zip(complete, alive, strict=True) if good], values[alive]
    vectors = np.array([json.loads(arch) for arch in complete])
    groups = _groups(path.with_name("nasbench201_accuracy.parquet"), complete) if space == "nasbench201" else None
    features, columns = vector_features(space, vectors)
    groups = np.arange(len(vectors)) if groups is None else groups
    return LatencyTable(space, features, values, tuple(devices), groups, columns)


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
        choices, physical, names = _cell_features(vectors), _cell_work(vectors), CELL_WORK
    elif space in list_encodings():
        public = encoding(space)
        layers = public.search_space.layers
        choices, names = _one_hot(vectors), FEATURE_NAMES
        physical = network_features(layers(public.decode(vector)) for vector in vectors.tolist())
    else:
        choices, physical, names = _one_hot(vectors), np.empty((len(vectors), 0)), ()
    return np.hstack([choices, physical]), (*(f"choice={number}" for number in range(choices.shape[1])), *names)


def _one_hot(vectors: Integers) -> Floats:
    return np.hstack([(column[:, None] == np.unique(column)).astype(float) for column in vectors.T])


def _pairs(indicators: Floats) -> Floats:
    found = [indicators[:, a] * indicators[:, b] for a, b in combinations(range(indicators.shape[1]), 2)]
    return np.stack([column for column in found if column.any()], axis=1)


def _cell_features(vectors: Integers) -> Floats:
    """Operations, pairs of them and rough costs, of the cell as written and of the part that reaches the output."""
    live = _live(vectors)
    found = [np.hstack([_one_hot(cells), _pairs(_one_hot(cells))]) for cells in (vectors, live)]
    paths = [list(path) for path in _PATHS]
    kinds = ([3], [2, 3], [4], [2, 3, 4])
    lengths = [
        (live[:, path] != 0).all(axis=1) * np.isin(live[:, path], ops).sum(axis=1) for ops in kinds for path in paths
    ]
    longest = np.stack(lengths, axis=1).reshape(len(live), len(kinds), len(paths)).max(axis=2)
    found += [np.stack([(cells == op).sum(axis=1) for op in range(5)], axis=1) / 6.0 for cells in (vectors, live)]
    found += [np.stack(lengths, axis=1), longest, _one_hot(longest)]
    # The logarithm of a sum of costs, for several guesses of what a fixed part, a 3x3 convolution and a pool cost.
    for cells, fixed, conv, pool in product((vectors, live), (0.3, 1.0, 3.0), (0.3, 1.0), (0.0, 0.3, 1.0)):
        skips, ones, threes, pools = ((cells == op).sum(axis=1) for op in range(1, 5))
        costs = np.log(fixed + conv * (3 * threes + ones) + pool * pools + 0.05 * skips)
        found += [costs[:, None], np.square(costs)[:, None]]
    return np.hstack(found)


def _cell_work(vectors: Integers) -> Floats:
    """Returns the counts `CELL_WORK` of ``(n, 6)`` cells."""
    live = _live(vectors)
    counts = [(vectors == op).sum(axis=1) for op in range(5)] + [(live == op).sum(axis=1) for op in range(1, 5)]
    return np.hstack([np.stack(counts, axis=1), [_computations(tuple(cell)) for cell in live.tolist()]]).astype(float)


@cache
def _computations(live: tuple[int, ...]) -> tuple[int, ...]:
    """Returns the different 1x1 and 3x3 convolutions and pools of a live cell, and those of its longest chain.

    A value is the set of terms that are added up; a term is a pool, or an edge's own weights, of a value.
    """
    values: list[frozenset[object]] = [frozenset({"input"})]
    chains = [(0, 0, 0)]
    made: dict[object, int] = {}
    for node in (1, 2, 3):
        terms: set[object] = set()
        longest = (0, 0, 0)
        for (start, end), edge, op in zip(_EDGES, range(len(_EDGES)), live, strict=True):
            if end != node or op == 0:
                continue
            chain = tuple(count + (op == kind) for count, kind in zip(chains[start], _COUNTED, strict=True))
            longest = max(longest, chain, key=lambda counts: counts[0] / 3 + counts[1] + counts[2])
            if op in _COUNTED:
                made[term := (values[start], "pool" if op == 4 else edge)] = op
                terms.add(term)
            else:
                terms |= values[start]
        values.append(frozenset(terms))
        chains.append(longest)
    return (*(list(made.values()).count(op) for op in _COUNTED), *chains[3])


def _live(vectors: Integers) -> Integers:
    """Returns cells with ``none`` on every edge that no path from the input to the output takes."""
    from_input = [np.ones(len(vectors), bool)]
    for node in (1, 2, 3):
        reached = [from_input[a] & (vectors[:, edge] != 0) for edge, (a, b) in enumerate(_EDGES) if b == node]
        from_input.append(np.logical_or.reduce(reached))
    to_output = {3: np.ones(len(vectors), bool)}
    for node in (2, 1, 0):
        reached = [to_output[b] & (vectors[:, edge] != 0) for edge, (a, b) in enumerate(_EDGES) if a == node]
        to_output[node] = np.logical_or.reduce(reached)
    used = np.stack([from_input[a] & to_output[b] for a, b in _EDGES], axis=1)
    return np.where(used, vectors, 0)
