"""Search problems made of real measurements: error and latency of architectures, to be searched with few evaluations.

(a) NAS-Bench-201: CIFAR-100 test error of 200 epochs (Dong and Yang, ICLR 2020) against latency, as tables that hold
four fifths of the 15,625 cells. (b) The MnasNet space of Accel-NASBench (arXiv:2404.08005): error and latency are
surrogates fitted to about 4,100 measured networks.
"""

import itertools
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from latency_tables import vector_features
from mnasnet_surrogates import (
    SURROGATE_DEVICES,
    mnasnet_choices,
    mnasnet_cost_columns,
    mnasnet_cost_features,
    mnasnet_features,
    mnasnet_surrogates,
)
from nasbench201_cells import DEGENERATE_MS, EDGES, OPERATIONS, live_cells, search_features
from numpy.typing import NDArray
from optuna.distributions import CategoricalDistribution
from sklearn.linear_model import Ridge
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import PolynomialFeatures, StandardScaler

from latency_predictors.device_columns import device_family
from nas.pareto import hypervolume, non_dominated
from nas.search.samplers.evolution import children, fitness_order
from nas.search.samplers.parameters import ParameterSpace

Floats = NDArray[np.float64]
Vector = tuple[int, ...]

NASBENCH201_DEVICES = {
    "intel_core_i7_7820x": "nasbench201_edge_mixed.parquet",
    "raspberry_pi_5/onnxruntime": "nasbench201_pi5_pixel6a.parquet",
    "nvidia_gtx_1080ti_bs256": "nasbench201_help.parquet",
    "asic_eyeriss": "nasbench201_help.parquet",
}
MNASNET_DEVICES = ("nvidia_a100", "google_tpu_v2", "xilinx_zcu102")


@dataclass(frozen=True)
class Problem:
    """Two losses over integer vectors: error in percent, and a cost.

    Attributes:
        name: ``space/device``.
        parameters: name and choices of each place of a vector, in order.
        values: the integers that stand for the choices.
        features: physical features ``(n, f)`` of ``(n, d)`` vectors.
        costs: ``(n,)`` of ``(n, d)`` vectors.
        losses: ``(n, 2)`` error and cost; NaN error where the table does not hold the network.
        connected: ``(n,)`` whether the output of ``(n, d)`` vectors depends on the input at all.
        cost_features: ``(n, p)`` of ``(n, d)`` vectors, what a predictor of the cost learns from.
        cost_columns: returns the p names of those features.
        sources: ``(n, s)`` costs on devices of other families, for a predictor that is transferred from them.
        low: ``(2,)`` least losses of a uniform sample.
        high: ``(2,)`` their 99th percentile.
        front: ``(k, 2)`` the best known losses.
    """

    name: str
    parameters: dict[str, tuple[Any, ...]]
    values: tuple[tuple[int, ...], ...]
    features: Callable[[NDArray[np.int64]], Floats]
    costs: Callable[[NDArray[np.int64]], Floats]
    losses: Callable[[NDArray[np.int64]], Floats]
    connected: Callable[[NDArray[np.int64]], NDArray[np.bool_]]
    cost_features: Callable[[NDArray[np.int64]], Floats]
    cost_columns: Callable[[], tuple[str, ...]]
    sources: Callable[[NDArray[np.int64]], Floats]
    low: Floats
    high: Floats
    front: Floats

    def ratio(self, losses: Floats) -> float:
        """Returns the hypervolume of evaluated networks over that of the front, both normalised."""
        return self._volume(losses) / self._volume(self.front)

    def _volume(self, losses: Floats) -> float:
        return hypervolume((losses - self.low) / (self.high - self.low), np.ones(2))

    @property
    def distributions(self) -> dict[str, CategoricalDistribution]:
        """The parameters as Optuna has them."""
        return {name: CategoricalDistribution(choices) for name, choices in self.parameters.items()}

    def vectors(self, params: Sequence[Any]) -> NDArray[np.int64]:
        """Returns ``(n, d)`` vectors of n parameter sets."""
        maps = _value_maps(tuple(self.parameters.items()), self.values)
        return np.array([[value_of[p[name]] for name, value_of in maps.items()] for p in params], dtype=np.int64)

    def random(self, count: int, rng: np.random.Generator) -> NDArray[np.int64]:
        """Returns ``(count, d)`` uniform vectors."""
        return np.stack([rng.choice(values, size=count) for values in self.values], axis=1)


@cache
def _value_maps(
    parameters: tuple[tuple[str, tuple[Any, ...]], ...], values: tuple[tuple[int, ...], ...]
) -> dict[str, dict[Any, int]]:
    return {n: dict(zip(choices, v, strict=True)) for (n, choices), v in zip(parameters, values, strict=True)}


def _table_costs(data: Path, device: str) -> tuple[dict[Vector, float], dict[Vector, Vector]]:
    """Returns the cost of cells, and the cell that was measured in the place of each where that is another one."""
    file = NASBENCH201_DEVICES.get(device, "nasbench201_help.parquet")
    rows = pd.read_parquet(data / file)
    rows = rows[rows.device == device]
    if "task" in rows:
        rows = rows[(rows.task == "cifar100") & ~rows.degenerate]
        # Measured once for each class of cells that compute the same: one of them, with all that it computes in vain.
        latency = {
            row: (tuple(json.loads(a)), ms) for row, a, ms in zip(rows.arch_id, rows.arch, rows.latency_ms, strict=True)
        }
        cells = pd.read_parquet(data / "nasbench201_accuracy.parquet")
        pairs = ((tuple(json.loads(a)), latency.get(rep)) for a, rep in zip(cells.arch, cells.rep_arch_id, strict=True))
        found = {cell: measured for cell, measured in pairs if measured is not None}
        return {cell: ms for cell, (_, ms) in found.items()}, {cell: measured for cell, (measured, _) in found.items()}
    rows = rows[rows.latency_ms >= DEGENERATE_MS]
    return {tuple(json.loads(arch)): value for arch, value in zip(rows.arch, rows.latency_ms, strict=True)}, {}


def nasbench201(data: Path, device: str) -> Problem:
    """Returns the problem of CIFAR-100 error against the latency on a device."""
    cells = pd.read_parquet(data / "nasbench201_accuracy.parquet")
    errors = {tuple(json.loads(a)): 100 - top1 for a, top1 in zip(cells.arch, cells.cifar100_test_top1, strict=True)}
    costs, measured_as = _table_costs(data, device)
    everything = list(itertools.product(range(5), repeat=6))
    inside = [cell for cell in everything if cell in errors and cell in costs]
    losses = np.array([[errors[cell], costs[cell]] for cell in inside])
    # A cell outside the table has a cost that a team would know; here it can only be filled in.
    filled = _filled(everything, costs)
    table = {cell: (errors[cell] if cell in costs and cell in errors else np.nan, filled[cell]) for cell in everything}

    place = {cell: row for row, cell in enumerate(everything)}

    measured = [measured_as.get(cell, cell) for cell in everything]

    @cache
    def predictor_inputs() -> tuple[Floats, tuple[str, ...]]:
        return vector_features("nasbench201", np.array(measured))

    @cache
    def sources() -> Floats:
        columns = pd.read_parquet(data / "nasbench201_help.parquet", columns=["device"]).device.unique()
        others = [name for name in columns if device_family(name) != device_family(device)]
        tables = [_filled(everything, _table_costs(data, name)[0]) for name in others]
        return np.array([[table[cell] for table in tables] for cell in measured])

    def of_cells(table: Callable[[], Floats]) -> Callable[[NDArray[np.int64]], Floats]:
        return lambda vectors: table()[[place[tuple(row)] for row in vectors.tolist()]]

    return Problem(
        name=f"nasbench201/{device}",
        parameters={f"edge{start}{end}": OPERATIONS for start, end in EDGES},
        values=(tuple(range(5)),) * 6,
        features=search_features,
        costs=lambda vectors: np.array([filled[tuple(row)] for row in vectors.tolist()]),
        losses=lambda vectors: np.array([table[tuple(row)] for row in vectors.tolist()]).reshape(-1, 2),
        connected=lambda vectors: live_cells(vectors).max(axis=1) > 0,
        cost_features=of_cells(lambda: predictor_inputs()[0]),
        cost_columns=lambda: predictor_inputs()[1],
        sources=of_cells(sources),
        low=losses.min(0),
        high=np.quantile(losses, 0.99, axis=0),
        front=losses[non_dominated(losses)],
    )


def _filled(everything: list[Vector], costs: dict[Vector, float]) -> dict[Vector, float]:
    """Returns the costs with a regression on the cell's features where the table has none."""
    known = [cell for cell in everything if cell in costs]
    missing = [cell for cell in everything if cell not in costs]
    model = make_pipeline(StandardScaler(), PolynomialFeatures(2), StandardScaler(), Ridge(1.0))
    model.fit(_with_cell(known), np.log([costs[cell] for cell in known]))
    predicted = np.exp(model.predict(_with_cell(missing)))
    return costs | dict(zip(missing, predicted.tolist(), strict=True))


def _with_cell(cells: list[Vector]) -> Floats:
    vectors = np.array(cells)
    return np.hstack([*(vectors == operation for operation in range(1, 5)), search_features(vectors)])


def mnasnet(data: Path, device: str) -> Problem:
    """Returns the problem of surrogate ImageNet error against the surrogate latency on a device."""
    surrogates = mnasnet_surrogates(data)
    parameters = mnasnet_choices()
    values = tuple(tuple(int(choice) for choice in options) for options in parameters.values())

    def costs(vectors: NDArray[np.int64]) -> Floats:
        cost: Floats = np.exp(surrogates[device](vectors))
        return cost

    def losses(vectors: NDArray[np.int64]) -> Floats:
        return np.stack([surrogates["error"](vectors), costs(vectors)], axis=1)

    rng = np.random.default_rng(0)
    sample = losses(np.stack([rng.choice(options, size=20_000) for options in values], axis=1))
    front = _long_runs(losses, parameters, values)
    return Problem(
        name=f"mnasnet/{device}",
        parameters=parameters,
        values=values,
        features=mnasnet_features,
        costs=costs,
        losses=losses,
        connected=lambda vectors: np.ones(len(vectors), dtype=np.bool_),
        cost_features=mnasnet_cost_features,
        cost_columns=mnasnet_cost_columns,
        sources=lambda vectors: np.exp([surrogates[d](vectors) for d in SURROGATE_DEVICES if d != device]).T,
        low=sample.min(0),
        high=np.quantile(sample, 0.99, axis=0),
        front=front,
    )


def _long_runs(
    losses: Callable[[NDArray[np.int64]], Floats],
    parameters: dict[str, tuple[Any, ...]],
    values: tuple[tuple[int, ...], ...],
    runs: int = 3,
    population: int = 150,
    generations: int = 150,
) -> Floats:
    """Returns the merged front of NSGA-II runs of 22,500 evaluations each."""
    space = ParameterSpace({name: CategoricalDistribution(choices) for name, choices in parameters.items()})
    levels = [np.array(sorted(options)) for options in values]

    def vectors(genomes: Floats) -> NDArray[np.int64]:
        return np.stack([level[genes.astype(int)] for level, genes in zip(levels, genomes.T, strict=True)], axis=1)

    merged = []
    for run in range(runs):
        rng = np.random.default_rng(run)
        genomes = space.sample(population, rng)
        found = losses(vectors(genomes))
        for _ in range(generations):
            born = children(space, genomes, population, rng)
            genomes, unique = np.unique(np.concatenate([genomes, born]), axis=0, return_index=True)
            found = np.concatenate([found, losses(vectors(born))])[unique]
            order = fitness_order(found)[:population]
            genomes, found = genomes[order], found[order]
        merged.append(found)
    everything = np.concatenate(merged)
    return everything[non_dominated(everything)]


def load_problem(name: str, data: Path) -> Problem:
    """Returns the problem of a name such as ``mnasnet/nvidia_a100``."""
    space, _, device = name.partition("/")
    return nasbench201(data, device) if space == "nasbench201" else mnasnet(data, device)


PROBLEMS = (*(f"nasbench201/{d}" for d in NASBENCH201_DEVICES), *(f"mnasnet/{d}" for d in MNASNET_DEVICES))
