"""Evolution of candidates on a model: NSGA-II's tournament, crossover, mutation and survival on genomes.

Deb, Pratap, Agarwal and Meyarivan, "A fast and elitist multiobjective genetic algorithm: NSGA-II", IEEE Transactions
on Evolutionary Computation 6(2), 2002, sections III and IV. Crossover takes each gene from either parent; mutation
redraws a level (half the time a neighbouring one, where the order means something) or moves a place.
"""

from bisect import bisect_left

import numpy as np
from numpy.typing import NDArray

from nas.pareto import ranks
from nas.search.samplers.parameters import ParameterSpace

Floats = NDArray[np.float64]

_CROSSOVER_PROBABILITY = 0.8
_PLACE_STEP = 0.1


def crowding(losses: Floats) -> Floats:
    """Returns ``(n,)`` crowding distances of one front: inf at its ends (Deb et al. 2002, section III B)."""
    count, objectives = losses.shape
    distance = np.zeros(count)
    for axis in range(objectives):
        order = np.argsort(losses[:, axis], kind="stable")
        values = losses[order, axis]
        span = values[-1] - values[0]
        distance[order[[0, -1]]] = np.inf
        if count > 2 and span > 0:
            distance[order[1:-1]] += (values[2:] - values[:-2]) / span
    return distance


def fitness_order(losses: Floats, count: int | None = None) -> NDArray[np.intp]:
    """Returns the best rows from best to worst: by front, within a front the least crowded first.

    Args:
        losses: ``(n, m)``.
        count: how many rows to return; all if None.
    """
    layers = _layers_of_two(losses) if losses.shape[1] == 2 else ranks(losses)
    ordered: list[NDArray[np.intp]] = []
    found, layer, wanted = 0, 1, len(losses) if count is None else min(count, len(losses))
    while found < wanted:
        rows = np.flatnonzero(layers == layer)
        ordered.append(rows[np.argsort(-crowding(losses[rows]), kind="stable")])
        found, layer = found + len(rows), layer + 1
    return np.concatenate(ordered)[:wanted] if ordered else np.empty(0, dtype=np.intp)


def _layers_of_two(losses: Floats) -> NDArray[np.int64]:
    """Returns what `ranks` returns for two losses, by one sweep (Jensen, IEEE Trans. Evol. Computation 7(5), 2003)."""
    layers = np.zeros(len(losses), dtype=np.int64)
    ends: list[tuple[float, float]] = []  # (second, first) of the last row of each layer; ascending
    order = np.lexsort((losses[:, 1], losses[:, 0]))
    for row, (first, second) in zip(order.tolist(), losses[order].tolist(), strict=True):
        layer = bisect_left(ends, (second, first))  # as many layers hold a row that dominates this one
        ends[layer : layer + 1] = [(second, first)]
        layers[row] = layer + 1
    return layers


def children(space: ParameterSpace, ordered: Floats, count: int, rng: np.random.Generator) -> Floats:
    """Returns new genomes from parents by binary tournament.

    Args:
        space: of the genomes.
        ordered: ``(n, d)`` parents, best first.
        count: of children.
        rng: decides everything.
    """
    parents = rng.integers(len(ordered), size=(count, 2, 2)).min(2)  # the better of two, twice
    mixed = rng.random((count, len(space.genes))) < 0.5
    crossed = rng.random((count, 1)) < _CROSSOVER_PROBABILITY
    born = np.where(mixed & crossed, ordered[parents[:, 1]], ordered[parents[:, 0]])
    return mutated(space, born, rng)


def mutated(space: ParameterSpace, genomes: Floats, rng: np.random.Generator) -> Floats:
    """Returns copies with about one gene changed in each, never none; absent genes are drawn afresh."""
    count, size = genomes.shape
    change = rng.random((count, size)) < 1.0 / size
    change[np.arange(count), rng.integers(size, size=count)] = True
    fresh = space.sample(count, rng)
    levels, ordinal = space.levels, space.ordinal & (space.levels != 2)
    step = np.where(levels > 0, rng.choice([-1.0, 1.0], size=(count, size)), rng.normal(0, _PLACE_STEP, (count, size)))
    near = np.clip(genomes + step, 0, np.where(levels > 0, levels - 1, 1))
    drawn = np.where(ordinal & (rng.random((count, size)) < 0.5), near, fresh)
    return np.where(np.isnan(genomes), fresh, np.where(change, drawn, genomes))


def neighbours(space: ParameterSpace, genome: Floats) -> Floats:
    """Returns ``(k, d)``: the genomes with one gene at another level (a place: a step up or down)."""
    found = []
    for column, gene in enumerate(space.genes):
        value = genome[column]
        others = range(len(gene.levels)) if gene.levels else np.clip([value - _PLACE_STEP, value + _PLACE_STEP], 0, 1)
        for other in others:
            if other != value and not np.isnan(value):
                changed = genome.copy()
                changed[column] = other
                found.append(changed)
    return np.array(found).reshape(-1, len(genome))
