"""What the hypervolume sampler knows about architectures of a search: costs, constraints, physical features."""

import math
from collections.abc import Mapping, Sequence

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
from search_spaces.block_table import BlockValues
from search_spaces.cost import layer_macs, layer_parameters
from search_spaces.layer import LayerSpec

Floats = NDArray[np.float64]


def features_of_sums(sums: Floats) -> Floats:
    """Returns what accuracy depends on most, ``(n, 7 + stages)``: sizes of whole networks and of their stages.

    Logarithms of MACs, parameters and feature-map values; convolutions, the sum of their windows beyond 1,
    squeeze-excite layers, and the sum of the logarithms of the expansions (1x1 convolutions to more channels); the
    logarithm of the MACs of every stage (0 where it has none).

    Args:
        sums: ``(n, 7 + stages)`` of each network's layers (`layer_sums`).
    """
    return np.hstack([np.log(sums[:, :3]), sums[:, 3:7], np.log1p(sums[:, 7:])])


def layer_sums(layer: LayerSpec, stages: int) -> Floats:
    """Returns ``(7 + stages,)``: what a layer adds to each sum behind its network's features (`features_of_sums`).

    Args:
        layer: of stage N if its name is ``stageN_...``.
        stages: how many a network has at most.
    """
    parts = np.zeros(7 + stages)
    macs, is_convolution = layer_macs(layer), layer.op == "conv"
    parts[:3] = macs, layer_parameters(layer), layer.out_channels * layer.out_size**2
    parts[3:6] = is_convolution, is_convolution * (layer.kernel - 1), layer.op == "squeeze_excite"
    if is_convolution and layer.kernel == 1:
        parts[6] = max(0.0, math.log(layer.out_channels / layer.in_channels))
    word, _, number = layer.name.partition("_")[0].partition("stage")
    if not word and number:
        parts[6 + int(number)] = macs
    return parts


class ArchitectureKnowledge:
    """Answers the sampler's questions about parameter sets of a search.

    Args:
        problem: what is searched.
        costs: tells the metrics that need no evaluation.
    """

    def __init__(self, problem: SearchProblem, costs: CostModel) -> None:
        self._problem, self._model = problem, costs
        # The sampler asks for features, costs and violations of the same parameter sets one after the other.
        self._last: Sequence[Params] = ()
        self._last_architectures: list[Architecture] = []
        self._last_values: list[dict[str, Value]] = []
        self._names = sorted(dimension.name for dimension in problem.space.dimensions)
        stages = len(problem.space.table.stages)
        self._of_blocks = BlockValues(
            problem.space.blocks,
            lambda block, _: sum((layer_sums(layer, stages) for layer in block), np.zeros(7 + stages)),
        )
        known = costs.costs_of([problem.space.smallest()])[0]
        self._columns = tuple(place for place, term in enumerate(problem.objectives) if term.name in known)

    def knowledge(self) -> Knowledge:
        """Returns the answers as the sampler takes them."""
        return Knowledge(
            costs=CostTerms(self._columns, self._costs) if self._columns else None,
            features=self._features,
            violations=self._violations if self._problem.constraints else None,
            needs={dimension.name: dimension.needs for dimension in self._problem.space.dimensions},
        )

    def _architectures(self, many: Sequence[Params]) -> list[Architecture]:
        if many is not self._last:
            self._last_architectures = [self._architecture(params) for params in many]
            self._last_values = self._model.costs_of(self._last_architectures)
            self._last = many
        return self._last_architectures

    def _values(self, many: Sequence[Params]) -> list[dict[str, Value]]:
        self._architectures(many)
        return self._last_values

    def _architecture(self, params: Params) -> Architecture:
        # What is asked about are choices of the space in canonical form: to check each takes several times as long.
        return Architecture(self._problem.space.name, tuple([(n, params[n]) for n in self._names if n in params]))

    def _features(self, many: Sequence[Params]) -> Floats:
        return features_of_sums(self._of_blocks.sums(self._problem.space.codes.of(self._architectures(many))))

    def _costs(self, many: Sequence[Params]) -> Floats:
        names = [self._problem.objectives[place].name for place in self._columns]
        return np.array([[values[name].value for name in names] for values in self._values(many)])

    def _violations(self, many: Sequence[Params]) -> Mapping[str, Floats]:
        rows = [
            self._problem.violations({name: value.value for name, value in values.items()})
            for values in self._values(many)
        ]
        return {text: np.array([row[text] for row in rows]) for text in rows[0]}


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
