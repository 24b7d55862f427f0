"""Cells of NAS-Bench-201 (Dong and Yang, ICLR 2020): what reaches their output, and features of them.

A cell is six integers, places in `OPERATIONS`, one for each of `EDGES`; node 0 is its input and node 3 its output.
"""

from functools import cache
from itertools import combinations, product

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Integers = NDArray[np.int64]

EDGES = ((0, 1), (0, 2), (1, 2), (0, 3), (1, 3), (2, 3))
OPERATIONS = ("none", "skip_connect", "nor_conv_1x1", "nor_conv_3x3", "avg_pool_3x3")
DEGENERATE_MS = 0.3
"""Cells under this are networks whose output does not depend on the input."""
_PATHS = ((3,), (1, 5), (0, 4), (0, 2, 5))
_COUNTED = (2, 3, 4)  # of the operations, those that compute
CELL_WORK = (
    *(f"written.{operation}" for operation in OPERATIONS),
    *(f"live.{operation}" for operation in OPERATIONS[1:]),
    *(f"once.{operation}" for operation in OPERATIONS[2:]),
    *(f"chain.{operation}" for operation in OPERATIONS[2:]),
)
"""What a runtime does for a cell: every edge as written (frameworks that go line by line), the edges that matter to the
output, each different computation once (compilers share pools of one input), the longest chain (edges in parallel).
"""


def live_cells(vectors: Integers) -> Integers:
    """Returns ``(n, 6)`` cells with ``none`` on every edge that no path from the input to the output takes."""
    from_input = [np.ones(len(vectors), bool)]
    for node in (1, 2, 3):
        reached = [from_input[a] & (vectors[:, edge] != 0) for edge, (a, b) in enumerate(EDGES) if b == node]
        from_input.append(np.logical_or.reduce(reached))
    to_output = {3: np.ones(len(vectors), bool)}
    for node in (2, 1, 0):
        reached = [to_output[b] & (vectors[:, edge] != 0) for edge, (a, b) in enumerate(EDGES) if a == node]
        to_output[node] = np.logical_or.reduce(reached)
    used = np.stack([from_input[a] & to_output[b] for a, b in EDGES], axis=1)
    return np.where(used, vectors, 0)


def search_features(vectors: Integers) -> Floats:
    """Returns what a sampler knows of ``(n, 6)`` cells beside their operations, of their live part alone."""
    return np.array([_search_features(tuple(cell)) for cell in live_cells(vectors).tolist()])


@cache
def _search_features(live: tuple[int, ...]) -> tuple[float, ...]:
    """Returns physical features of a live cell.

    A 3x3 convolution has 9 times the MACs and weights of a 1x1 one, the same in all three stages; pools and skips have
    none. So the cell's MACs are 15 * 262,144 * (ones + 9 * threes), and its logarithm is enough.
    """
    paths = [[live[edge] for edge in path] for path in _PATHS if all(live[edge] for edge in path)] or [[]]
    count = [live.count(operation) for operation in range(5)]
    convs = [sum(operation in {2, 3} for operation in path) for path in paths]
    pools = [path.count(4) for path in paths]
    return (
        float(np.log(1 + count[2] + 9 * count[3])),
        *count[1:],
        len(paths),
        max(convs),
        min(convs),
        float(np.mean(convs)),
        max(path.count(3) for path in paths),
        min(pools),
        max(pools),
        max(map(len, paths)),
        min(map(len, paths)),
        float(live[3] == 1),
    )


def one_hot(vectors: Integers) -> Floats:
    """Returns an indicator for each value that a column of ``(n, d)`` vectors takes."""
    return np.hstack([(column[:, None] == np.unique(column)).astype(float) for column in vectors.T])


def _pairs(indicators: Floats) -> Floats:
    found = [indicators[:, a] * indicators[:, b] for a, b in combinations(range(indicators.shape[1]), 2)]
    return np.stack([column for column in found if column.any()], axis=1)


def cell_features(vectors: Integers) -> Floats:
    """Returns what a predictor learns from of ``(n, 6)`` cells, as written and of the part that reaches the output.

    Operations, pairs of them and rough costs.
    """
    live = live_cells(vectors)
    found = [np.hstack([one_hot(cells), _pairs(one_hot(cells))]) for cells in (vectors, live)]
    paths = [list(path) for path in _PATHS]
    kinds = ([3], [2, 3], [4], [2, 3, 4])
    lengths = [
        (live[:, path] != 0).all(axis=1) * np.isin(live[:, path], ops).sum(axis=1) for ops in kinds for path in paths
    ]
    longest = np.stack(lengths, axis=1).reshape(len(live), len(kinds), len(paths)).max(axis=2)
    found += [np.stack([(cells == op).sum(axis=1) for op in range(5)], axis=1) / 6.0 for cells in (vectors, live)]
    found += [np.stack(lengths, axis=1), longest, one_hot(longest)]
    # The logarithm of a sum of costs, for several guesses of what a fixed part, a 3x3 convolution and a pool cost.
    for cells, fixed, conv, pool in product((vectors, live), (0.3, 1.0, 3.0), (0.3, 1.0), (0.0, 0.3, 1.0)):
        skips, ones, threes, pools = ((cells == op).sum(axis=1) for op in range(1, 5))
        costs = np.log(fixed + conv * (3 * threes + ones) + pool * pools + 0.05 * skips)
        found += [costs[:, None], np.square(costs)[:, None]]
    return np.hstack(found)


def cell_work(vectors: Integers) -> Floats:
    """Returns the counts `CELL_WORK` of ``(n, 6)`` cells."""
    live = live_cells(vectors)
    counts = [(vectors == op).sum(axis=1) for op in range(5)] + [(live == op).sum(axis=1) for op in range(1, 5)]
    return np.hstack([np.stack(counts, axis=1), [_computations(tuple(cell)) for cell in live.tolist()]]).astype(float)


@cache
def _computations(live: tuple[int, ...]) -> tuple[int, ...]:
    """Returns the different 1x1 and 3x3 convolutions and pools of a live cell, and those of its longest chain.

    A value is the set of terms that are added up; a term is a pool, or an edge's own weights, of a value.
    """
    values: list[frozenset[object]] = [frozenset({"input"})]
    chains: list[tuple[int, ...]] = [(0, 0, 0)]
    made: dict[object, int] = {}
    for node in (1, 2, 3):
        terms: set[object] = set()
        longest: tuple[int, ...] = (0, 0, 0)
        for (start, end), edge, op in zip(EDGES, range(len(EDGES)), live, strict=True):
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
