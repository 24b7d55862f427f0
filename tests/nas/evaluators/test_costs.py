from collections.abc import Sequence

import numpy as np
import pytest

from latency_predictors.base import Floats, LatencyPredictor, Model
from latency_predictors.features import network_features
from nas.errors import InputError
from nas.evaluators.costs import AnalyticAndPredictedCosts
from nas.objectives import Constraint, Objective, Value
from search_spaces.cost import network_cost
from search_spaces.space import load_space

SPACE = load_space("tiny")


def objectives(*names: str) -> tuple[Objective, ...]:
    return tuple(map(Objective.parse, names))


class NearestInSize(LatencyPredictor):
    """Predicts the time of the measured network whose features are nearest."""

    kind = "nearest"

    def _fit(self, features: Floats, logs: Floats, weights: Floats) -> list[Model]:
        return [{"features": features[own > 0], "logs": logs[own > 0]} for own in weights.T]

    def _predict(self, models: Sequence[Model], features: Floats) -> Floats:
        return np.stack([m["logs"][((features[:, None] - m["features"][None]) ** 2).sum(-1).argmin(1)] for m in models])


@pytest.fixture(scope="module")
def predictor() -> LatencyPredictor:
    rng = np.random.default_rng(0)
    networks = [SPACE.layers(SPACE.sample(rng)) for _ in range(40)]
    values = np.array([network_cost(layers).macs / 1e6 for layers in networks])
    return NearestInSize("latency_ms", "local").fit(networks, values)


def test_counts_are_exact_and_bytes_are_those_of_the_devices_precision() -> None:
    names = ("macs", "parameters", "weight_bytes@cpu", "weight_bytes@npu", "peak_activation_bytes@npu")
    model = AnalyticAndPredictedCosts(
        SPACE, objectives("accuracy", *names), precisions={"cpu": "fp32", "npu": "int8"}, predictors={}
    )
    architecture = SPACE.largest()
    fp32, int8 = (network_cost(SPACE.layers(architecture), precision) for precision in ("fp32", "int8"))
    values = (fp32.macs, fp32.parameters, fp32.weight_bytes, int8.weight_bytes, int8.peak_activation_bytes)
    expected = {name: Value(value, "analytic") for name, value in zip(names, values, strict=True)}
    assert model.costs_of([architecture])[0] == expected


def test_a_predicted_cost_carries_the_predictors_interval(predictor: LatencyPredictor) -> None:
    model = AnalyticAndPredictedCosts(
        SPACE, objectives("latency_ms@cpu", "accuracy"), precisions={"cpu": "fp32"}, predictors={"cpu": predictor}
    )
    architecture = SPACE.sample(np.random.default_rng(1))
    predicted = predictor.predict([SPACE.layers(architecture)])
    mean, lower, upper = (column[0] for column in (predicted.mean, predicted.lower, predicted.upper))
    assert model.costs_of([architecture])[0] == {"latency_ms@cpu": Value(mean, "predicted", lower, upper)}


def test_a_bound_on_a_predicted_cost_is_kept_with_the_predictors_probability(predictor: LatencyPredictor) -> None:
    names = objectives("latency_ms@cpu", "macs")
    model = AnalyticAndPredictedCosts(SPACE, names, precisions={"cpu": "fp32"}, predictors={"cpu": predictor})
    rng = np.random.default_rng(3)
    architectures = [SPACE.sample(rng) for _ in range(5)]
    bound = model.costs_of(architectures)[2]["latency_ms@cpu"].value
    texts = [f"latency_ms@cpu <= {bound:g}", f"latency_ms@cpu >= {bound:g}", "macs <= 1e6", "accuracy >= 0.5"]
    bounds = list(map(Constraint.parse, texts))
    found = model.probabilities_of(architectures, bounds)
    features = network_features(map(SPACE.layers, architectures))
    within = predictor.probability_within(features, bounds[0].bound)
    assert [row[texts[0]] for row in found] == within.tolist()
    assert [row[texts[1]] for row in found] == (1 - within).tolist()
    assert all(row.keys() == set(texts[:2]) for row in found)
    assert model.probabilities_of([], bounds) == []


def test_many_architectures_cost_the_same_together_as_one_by_one(predictor: LatencyPredictor) -> None:
    model = AnalyticAndPredictedCosts(
        SPACE, objectives("latency_ms@cpu", "macs"), precisions={"cpu": "fp32"}, predictors={"cpu": predictor}
    )
    rng = np.random.default_rng(2)
    architectures = [SPACE.sample(rng) for _ in range(5)]
    together = model.costs_of(architectures)
    assert_close(together, [model.costs_of([architecture])[0] for architecture in architectures])


def assert_close(ones: Sequence[dict[str, Value]], others: Sequence[dict[str, Value]]) -> None:
    for one, other in zip(ones, others, strict=True):
        assert one.keys() == other.keys()
        for name in one:
            assert one[name].value == pytest.approx(other[name].value)
            assert one[name].source == other[name].source


def test_each_learned_cost_has_its_predictor_and_no_other(predictor: LatencyPredictor) -> None:
    names = objectives("latency_ms@cpu", "energy_mj@cpu")
    rng = np.random.default_rng(3)
    networks = [SPACE.layers(SPACE.sample(rng)) for _ in range(20)]
    energy = NearestInSize("energy_mj", "local").fit(networks, np.linspace(50, 70, 20))
    both = {"cpu": predictor, "cpu.energy_mj": energy}
    (found,) = AnalyticAndPredictedCosts(SPACE, names, precisions={}, predictors=both).costs_of([SPACE.largest()])
    assert found["latency_ms@cpu"].value < 40 < found["energy_mj@cpu"].value
    with pytest.raises(InputError, match=r"energy_mj@cpu: predictor 'cpu.energy_mj' tells latency_ms: fit one of"):
        AnalyticAndPredictedCosts(SPACE, names, precisions={}, predictors=both | {"cpu.energy_mj": predictor})


@pytest.mark.parametrize("name", ["latency_ms@phone", "energy_mj@phone", "weight_bytes@phone"])
def test_an_unknown_device_is_named(name: str) -> None:
    with pytest.raises(InputError, match="nothing is known about device 'phone'"):
        AnalyticAndPredictedCosts(SPACE, objectives(name), precisions={"cpu": "fp32"}, predictors={})
