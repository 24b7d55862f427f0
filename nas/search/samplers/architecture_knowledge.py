"""What the hypervolume sampler knows about architectures of a search: costs, constraints, physical features."""

import math
from collections.abc import Mapping, Sequence
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray
from optuna.samplers import BaseSampler

from nas.config import SearchConfig
from nas.evaluators.costs import CostModel
from nas.objectives import Value
from nas.search.problem import SearchProblem
from nas.search.samplers.base import SeededSampler, distributions, register_sampler
from nas.search.samplers.hypervolume import HypervolumeSampler
from nas.search.samplers.knowledge import CostTerms, Knowledge
from nas.search.samplers.parameters import Params
from search_spaces.architecture import Architecture
from search_spaces.cost import layer_macs, layer_parameters
from search_spaces.layer import LayerSpec

Floats = NDArray[np.float64]

Z_90 = 1.6448536269514722
"""The 95 % quantile of the normal distribution: half the width of a two-sided 90 % interval, in standard deviations."""


def architecture_features(networks: Sequence[Sequence[LayerSpec]], stages: int) -> Floats:
    """Returns what accuracy depends on most, ``(n, f)``: sizes of the whole network and of its stages.

    Logarithms of MACs, parameters and feature-map values; convolutions, the sum of their windows beyond 1, and gated
    layers; for every stage the logarithm of its MACs (0 where it has none) and its convolutions.

    Args:
        networks: layers of each, in execution order; layers of stage N are named ``stageN_...``.
        stages: how many the networks have at most.
    """
    rows = []
    for total, own in map(_sums, networks):
        row = [math.log(total[0]), math.log(total[1]), math.log(total[2]), *total[3:]]
        for stage in range(1, stages + 1):
            macs, convolutions = own.get(f"stage{stage}", (0.0, 0.0))
            row += [math.log1p(macs), convolutions]
        rows.append(row)
    return np.array(rows)


def _sums(layers: Sequence[LayerSpec]) -> tuple[list[float], dict[str, tuple[float, float]]]:
    """Returns the sums over a network, and MACs and convolutions of each of its stages."""
    total = [0.0] * 6
    stages: dict[str, tuple[float, float]] = {}
    for layer in layers:
        stage, macs, parts = _parts(layer)
        total = [one + other for one, other in zip(total, parts, strict=True)]
        if stage:
            earlier = stages.get(stage, (0.0, 0.0))
            stages[stage] = earlier[0] + macs, earlier[1] + parts[3]
    return total, stages


@lru_cache(maxsize=1 << 16)
def _parts(layer: LayerSpec) -> tuple[str, float, tuple[float, ...]]:
    """Returns a layer's stage ("" outside the stages), its MACs and what it adds to each sum of its network."""
    name = layer.name.partition("_")[0]
    macs = float(layer_macs(layer))
    values = float(layer.out_channels * layer.out_size**2)
    is_convolution = float(layer.op == "conv")
    window = float(layer.kernel - 1) if layer.op == "conv" else 0.0
    parts = (macs, float(layer_parameters(layer)), values, is_convolution, window, float(layer.op == "squeeze_excite"))
    return name if name.startswith("stage") else "", macs, parts


class ArchitectureKnowledge:
    """Answers the sampler's questions about parameter sets of a search.

    Args:
        problem: what is searched.
        costs: tells the metrics that need no evaluation.
    """

    def __init__(self, problem: SearchProblem, costs: CostModel) -> None:
        self._problem, self._model = problem, costs
        self._told: dict[str, dict[str, Value]] = {}  # of the last question, by architecture key
        known = costs.costs_of([problem.space.smallest()])[0]
        self._columns = tuple(place for place, term in enumerate(problem.objectives) if term.name in known)

    def knowledge(self) -> Knowledge:
        """Returns the answers as the sampler takes them."""
        return Knowledge(
            costs=CostTerms(self._columns, self._costs) if self._columns else None,
            features=self._features,
            violations=self._violations if self._problem.constraints else None,
            canonical=self._canonical,
        )

    def _architectures(self, many: Sequence[Params]) -> list[Architecture]:
        return [self._problem.space.architecture(params) for params in many]

    def _canonical(self, params: Params) -> Params:
        return dict(self._problem.space.architecture(params).values)

    def _features(self, many: Sequence[Params]) -> Floats:
        space = self._problem.space
        return architecture_features([space.layers(one) for one in self._architectures(many)], len(space.table.stages))

    def _values(self, many: Sequence[Params]) -> list[dict[str, Value]]:
        """Returns the costs; costs and constraints of the same parameter sets are asked one after the other."""
        architectures = self._architectures(many)
        keys = [architecture.key for architecture in architectures]
        if any(key not in self._told for key in keys):
            self._told = dict(zip(keys, self._model.costs_of(architectures), strict=True))
        return [self._told[key] for key in keys]

    def _costs(self, many: Sequence[Params]) -> tuple[Floats, Floats]:
        names = [self._problem.objectives[place].name for place in self._columns]
        rows = [[values[name] for name in names] for values in self._values(many)]
        mean = np.array([[value.value for value in row] for row in rows])
        return mean, np.array([[_std(value) for value in row] for row in rows])

    def _violations(self, many: Sequence[Params]) -> Mapping[str, Floats]:
        rows = [
            self._problem.violations({name: value.value for name, value in values.items()})
            for values in self._values(many)
        ]
        return {text: np.array([row[text] for row in rows]) for text in rows[0]}


def _std(value: Value) -> float:
    """Returns a prediction's standard deviation, from its 90 % interval; 0 for what is exact."""
    return 0.0 if value.lower is None or value.upper is None else (value.upper - value.lower) / (2 * Z_90)


@register_sampler("hypervolume")
def hypervolume_sampler(problem: SearchProblem, costs: CostModel, config: SearchConfig) -> SeededSampler:
    """Returns expected hypervolume improvement with everything known that need not be evaluated."""
    accuracy_std = [config.accuracy_noise if term.metric == "accuracy" else 0.0 for term in problem.objectives]
    sampler = HypervolumeSampler(
        search_space=dict(distributions(problem.space)),
        knowledge=ArchitectureKnowledge(problem, costs).knowledge(),
        noise_std=accuracy_std,
    )

    def seeded(seed: int) -> BaseSampler:
        return sampler.with_seed(seed)

    return seeded
