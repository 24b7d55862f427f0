"""What the hypervolume sampler is told about architectures, against the modules that know."""

import numpy as np
import pytest

from nas.evaluators.costs import AnalyticAndPredictedCosts
from nas.objectives import Constraint, Objective
from nas.search.problem import SearchProblem
from nas.search.samplers.architecture_knowledge import ArchitectureKnowledge
from nas.search.samplers.base import distributions
from nas.search.samplers.knowledge import Describer
from search_spaces.cost import layer_macs, network_cost
from search_spaces.space import load_space


@pytest.fixture
def problem() -> SearchProblem:
    objectives = tuple(map(Objective.parse, ("accuracy", "macs", "parameters")))
    return SearchProblem(load_space("tiny"), objectives, (Constraint.parse("macs <= 500000"),))


def test_costs_violations_and_canonical_form_are_those_of_the_search(problem: SearchProblem) -> None:
    terms = (*problem.objectives, *(constraint.objective for constraint in problem.constraints))
    costs = AnalyticAndPredictedCosts(problem.space, terms, precisions={}, predictors={})
    knowledge = ArchitectureKnowledge(problem, costs).knowledge()
    rng = np.random.default_rng(0)
    many = [{d.name: d.choices[rng.integers(len(d.choices))] for d in problem.space.dimensions} for _ in range(30)]
    architectures = [problem.space.architecture(params) for params in many]
    exact = [network_cost(problem.space.layers(architecture)) for architecture in architectures]
    assert knowledge.costs is not None
    assert knowledge.violations is not None
    assert knowledge.costs.objectives == (1, 2)
    assert knowledge.costs.predict(many).tolist() == [[cost.macs, cost.parameters] for cost in exact]
    (told,) = knowledge.violations(many).values()
    assert (told > 0).tolist() == [cost.macs > 500_000 for cost in exact]
    assert 0 < (told > 0).sum() < 30
    describer = Describer(distributions(problem.space), knowledge)
    genomes = describer.describe(np.array([describer.space.genome(params) for params in many])).genomes
    told = [dict(sorted(describer.space.params(genome).items())) for genome in genomes]
    assert told == [dict(one.values) for one in architectures]


def test_features_are_sums_over_the_layers_of_network_and_stages() -> None:
    space = load_space("efficientnet")
    stages = len(space.table.stages)
    ends = [space.smallest(), space.largest()]
    networks = [space.layers(one) for one in ends]
    problem = SearchProblem(space, (Objective.parse("accuracy"), Objective.parse("macs")))
    costs = AnalyticAndPredictedCosts(space, problem.objectives, precisions={}, predictors={})
    knowledge = ArchitectureKnowledge(problem, costs).knowledge()
    assert knowledge.features is not None
    features = knowledge.features([dict(one.values) for one in ends])
    for row, layers in zip(features, networks, strict=True):
        cost = network_cost(layers)
        convolutions = [layer for layer in layers if layer.op == "conv"]
        assert np.exp(row[:2]) == pytest.approx([cost.macs, cost.parameters])
        assert row[3] == len(convolutions)
        assert row[4] == sum(layer.kernel - 1 for layer in convolutions)
        assert row[5] == sum(layer.op == "squeeze_excite" for layer in layers)
        wider = [layer for layer in convolutions if layer.kernel == 1 and layer.out_channels > layer.in_channels]
        assert row[6] == pytest.approx(sum(np.log(layer.out_channels / layer.in_channels) for layer in wider))
        inside = sum(layer_macs(layer) for layer in layers if layer.name.startswith("stage"))
        assert np.expm1(row[7:]).sum() == pytest.approx(inside, rel=1e-6)
        assert len(row) == 7 + stages
