"""Costs: recovered where they are the truth, never below zero, and corrected where they do not add up."""

import numpy as np

from latency_predictors.base import Model
from latency_predictors.features import FEATURE_NAMES, network_features
from latency_predictors.linear import LinearPredictor, fit_costs, log_costs
from tests.latency_predictors.roofline import CALL_MS, additive_ms, roofline_ms, tiny_networks

TRAIN, FRESH = tiny_networks(60, seed=1), tiny_networks(100, seed=2)


def test_additive_latencies_are_predicted_to_a_thousandth() -> None:
    predictor = LinearPredictor("latency_ms", "d").fit(TRAIN, additive_ms(TRAIN))
    np.testing.assert_allclose(predictor.predict(FRESH).mean, additive_ms(FRESH), rtol=2e-3)


def hidden_ms(features: np.ndarray) -> np.ndarray:
    """Moving values costs time, and some of it hides behind the calls of depthwise layers."""
    of = dict(zip(FEATURE_NAMES, features.T, strict=True))
    moved = sum(of[f"level{level}.values"] for level in range(6)) * 1e-6
    return moved - 0.001 * sum(of[f"depthwise_{window}.calls"] for window in (3, 5, 7))


def fitted(features: np.ndarray, values: np.ndarray) -> Model:
    """Returns the model of all rows."""
    folds = np.arange(len(values))[:, None] % 10 != np.arange(10)
    weights = np.column_stack([np.ones(len(values)), folds])
    return fit_costs(features, np.log(values), weights)[0]


def test_costs_are_not_below_zero_and_add_up_to_the_prediction_with_their_corrections() -> None:
    predictor = LinearPredictor("latency_ms", "d").fit(TRAIN, roofline_ms(TRAIN))
    of = predictor.arrays()
    assert (of["0.costs"] >= 0).all()
    rows = np.column_stack([network_features(FRESH), np.ones(len(FRESH))])
    plain, whole = rows @ of["0.costs"], rows @ (of["0.costs"] + of["0.corrections"])
    within = np.abs(np.log(whole / plain)) <= of["0.reach"]
    assert within.mean() > 0.9
    np.testing.assert_allclose(predictor.predict(FRESH).mean[within], whole[within], rtol=1e-9)


def test_what_hides_behind_other_work_is_learned_as_a_correction_below_zero() -> None:
    train, fresh = network_features(TRAIN), network_features(FRESH)
    model = fitted(train, hidden_ms(train))
    plain = {name: model[name] for name in ("costs", "floor")}  # as earlier versions saved it
    wrong, left = (np.abs(log_costs([one], fresh)[0] - np.log(hidden_ms(fresh))).mean() for one in (plain, model))
    assert wrong > 0.02
    assert left < wrong / 5


def test_far_outside_the_rows_corrections_go_no_further_than_among_them() -> None:
    train = network_features(TRAIN)
    model = fitted(train, hidden_ms(train))
    far = 50 * train * np.random.default_rng(3).uniform(0, 1, train.shape)
    plain = {name: model[name] for name in ("costs", "floor")}
    moved = np.abs(log_costs([model], far) - log_costs([plain], far)).max()
    assert 0 < moved <= model["reach"] * (1 + 1e-9)
    assert model["reach"] < 0.5


def test_noisy_rows_of_a_device_that_adds_up_are_seldom_corrected_and_few_never() -> None:
    features, values = network_features(TRAIN), additive_ms(TRAIN)
    corrected: dict[int, list[bool]] = {20: [], 60: []}
    for seed in range(20):
        rng = np.random.default_rng(seed)
        for count, found in corrected.items():
            rows = rng.permutation(len(TRAIN))[:count]
            noisy = values[rows] * np.exp(0.03 * rng.standard_normal(count))
            found.append(bool(fitted(features[rows], noisy)["corrections"].any()))
    assert not any(corrected[20])
    assert np.mean(corrected[60]) <= 0.2


def test_the_cost_of_a_call_is_found_where_calls_are_all_there_is() -> None:
    calls = network_features(TRAIN)[:, [name.endswith(".calls") and "level" not in name for name in FEATURE_NAMES]]
    predictor = LinearPredictor("latency_ms", "d").fit(TRAIN, CALL_MS * calls.sum(axis=1))
    fresh = network_features(FRESH)[:, [name.endswith(".calls") and "level" not in name for name in FEATURE_NAMES]]
    np.testing.assert_allclose(predictor.predict(FRESH).mean, CALL_MS * fresh.sum(axis=1), rtol=1e-3)
