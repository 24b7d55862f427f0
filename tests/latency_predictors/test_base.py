"""The contract of predictors, against every kind: a new kind is tested by being listed in `kinds`."""

import pickle
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from latency_predictors.base import LatencyPredictor, Prediction
from latency_predictors.features import network_features
from latency_predictors.kinds import list_kinds, predictor_kind
from latency_predictors.metrics import scores
from search_spaces.errors import InputError
from search_spaces.space import load_space
from tests.latency_predictors.roofline import roofline_ms, tiny_networks

TRAIN, FRESH = tiny_networks(48, seed=1), tiny_networks(200, seed=2)
NOISE = np.exp(np.random.default_rng(0).normal(0, 0.02, len(TRAIN)))


@pytest.fixture(params=list_kinds())
def predictor(request: pytest.FixtureRequest) -> LatencyPredictor:
    return predictor_kind(request.param)("latency_ms", "local/onnxruntime/fp32/1-thread")


def _same(one: Prediction, other: Prediction) -> None:
    np.testing.assert_array_equal(one.mean, other.mean)
    np.testing.assert_array_equal(one.lower, other.lower)
    np.testing.assert_array_equal(one.upper, other.upper)


def test_forty_eight_noisy_networks_of_a_roofline_device_are_enough(predictor: LatencyPredictor) -> None:
    found = scores(predictor.fit(TRAIN, roofline_ms(TRAIN) * NOISE).predict(FRESH), roofline_ms(FRESH))
    assert found.spearman >= 0.98
    assert found.within_10 >= 0.97
    assert found.coverage >= 0.85


def test_a_budget_is_kept_as_likely_as_the_interval_says(predictor: LatencyPredictor) -> None:
    predictor.fit(TRAIN, roofline_ms(TRAIN) * NOISE)
    fresh, features = predictor.predict(FRESH), network_features(FRESH)
    guess = 1 / (len(TRAIN) + 1)
    for end, expected in ((fresh.upper, 0.95), (fresh.lower, 0.05)):
        assert np.abs(predictor.probability_within(features, end) - expected).max() <= 1.5 * guess
    budgets = np.quantile(roofline_ms(TRAIN), [0.1, 0.5, 0.9])
    rising = np.stack([predictor.probability_within(features, budget) for budget in budgets])
    assert (np.diff(rising, axis=0) >= 0).all()
    assert 0 < predictor.probability_within(features, -1.0).max() < guess
    again = type(predictor).restore("latency_ms", predictor.device, predictor.seed, predictor.arrays())
    np.testing.assert_array_equal(again.probability_within(features, budgets[1]), rising[1])


def test_of_networks_that_are_likely_to_keep_a_budget_as_many_do(predictor: LatencyPredictor) -> None:
    truth = roofline_ms(FRESH) * np.exp(np.random.default_rng(1).normal(0, 0.02, len(FRESH)))
    predictor.fit(TRAIN, roofline_ms(TRAIN) * NOISE)
    features, budgets = network_features(FRESH), np.quantile(truth, np.linspace(0.05, 0.95, 60))
    told = np.concatenate([predictor.probability_within(features, budget) for budget in budgets])
    kept = np.concatenate([truth <= budget for budget in budgets])
    for low, high in ((0.1, 0.4), (0.4, 0.6), (0.6, 0.9)):
        among = (low <= told) & (told < high)
        assert kept[among].mean() == pytest.approx(told[among].mean(), abs=0.15)


def test_the_same_rows_and_seed_give_the_same_predictions(predictor: LatencyPredictor) -> None:
    first = predictor.fit(TRAIN, roofline_ms(TRAIN)).predict(FRESH)
    _same(first, predictor.predict(FRESH))
    _same(first, type(predictor)("latency_ms", "other").fit(TRAIN, roofline_ms(TRAIN)).predict(FRESH))


def test_networks_are_predicted_alike_alone_and_together(predictor: LatencyPredictor) -> None:
    predictor.fit(TRAIN, roofline_ms(TRAIN))
    together = predictor.predict(FRESH[:5]).mean
    np.testing.assert_allclose([predictor.predict([layers]).mean[0] for layers in FRESH[:5]], together, rtol=1e-12)
    assert len(predictor.predict([])) == 0


def test_another_unit_changes_only_the_unit(predictor: LatencyPredictor) -> None:
    ms = predictor.fit(TRAIN, roofline_ms(TRAIN) * NOISE).predict(FRESH)
    us = type(predictor)("latency_us", "d").fit(TRAIN, 1000 * roofline_ms(TRAIN) * NOISE).predict(FRESH)
    np.testing.assert_allclose(us.mean, 1000 * ms.mean, rtol=1e-6)
    np.testing.assert_allclose(us.upper, 1000 * ms.upper, rtol=1e-6)


def test_arrays_restore_the_same_predictions(predictor: LatencyPredictor) -> None:
    before = predictor.fit(TRAIN, roofline_ms(TRAIN) * NOISE).predict(FRESH)
    again = type(predictor).restore(predictor.metric, predictor.device, predictor.seed, predictor.arrays())
    _same(before, again.predict(FRESH))
    assert all(array.dtype in (np.float64, np.int64) for array in predictor.arrays().values())


def test_a_fitted_predictor_travels_to_workers_and_serves_threads(predictor: LatencyPredictor) -> None:
    predictor.fit(TRAIN, roofline_ms(TRAIN))
    travelled = pickle.loads(pickle.dumps(predictor))  # noqa: S301  our own bytes, as Ray moves them
    with ThreadPoolExecutor(4) as pool:
        for found in pool.map(lambda _: travelled.predict(FRESH), range(8)):
            _same(found, predictor.predict(FRESH))


def test_ten_percent_wild_rows_hardly_change_the_error(predictor: LatencyPredictor) -> None:
    rng = np.random.default_rng(3)
    values = roofline_ms(TRAIN) * NOISE
    clean = scores(predictor.fit(TRAIN, values).predict(FRESH), roofline_ms(FRESH)).mape
    wild = values.copy()
    wild[rng.choice(len(TRAIN), 5, replace=False)] *= [0.1, 0.3, 3, 6, 10]
    assert scores(predictor.fit(TRAIN, wild).predict(FRESH), roofline_ms(FRESH)).mape <= 1.3 * clean


def test_rows_known_to_be_noisy_count_less(predictor: LatencyPredictor) -> None:
    rng = np.random.default_rng(4)
    noise = np.where(np.arange(len(TRAIN)) % 2, 0.3, 0.0)  # every other row is off by 30 %, and says so
    values = roofline_ms(TRAIN) * np.exp(rng.normal(0, 1, len(TRAIN)) * noise)
    unaware = scores(predictor.fit(TRAIN, values).predict(FRESH), roofline_ms(FRESH)).mape
    aware = scores(predictor.fit(TRAIN, values, noise).predict(FRESH), roofline_ms(FRESH)).mape
    assert aware < unaware


def test_repeated_measurements_of_one_network_do_not_narrow_the_interval_of_others(predictor: LatencyPredictor) -> None:
    values = roofline_ms(TRAIN) * NOISE
    once = predictor.fit(TRAIN, values).predict(FRESH)
    thrice = predictor.fit(TRAIN * 3, np.tile(values, 3)).predict(FRESH)
    assert np.mean(thrice.upper / thrice.lower) > 0.7 * np.mean(once.upper / once.lower)


def test_a_network_far_larger_than_all_measured_still_has_a_sane_prediction(predictor: LatencyPredictor) -> None:
    space = load_space("mobilenet_v3")
    found = predictor.fit(TRAIN, roofline_ms(TRAIN)).predict([space.layers(space.largest())])
    assert found.lower[0] <= found.mean[0] <= found.upper[0]
    assert found.mean[0] > 10 * roofline_ms(TRAIN).max()


@pytest.mark.parametrize(
    ("count", "values", "noise", "message"),
    [
        (9, np.ones(9), None, "needs at least 10 different networks, got 9: measure more"),
        (12, np.r_[np.ones(11), 0.0], None, "finite and above zero, got 0.0 in row 11"),
        (12, np.r_[np.nan, np.ones(11)], None, "finite and above zero, got nan in row 0"),
        (12, np.ones(12), np.r_[np.zeros(11), -1.0], "at least 0, got -1.0 in row 11"),
    ],
)
def test_rows_that_cannot_be_learned_from_are_refused_in_one_sentence(
    predictor: LatencyPredictor, count: int, values: np.ndarray, noise: np.ndarray | None, message: str
) -> None:
    with pytest.raises(InputError, match=message):
        predictor.fit(TRAIN[:count], values, noise)


def test_ten_times_the_same_network_is_not_ten_networks(predictor: LatencyPredictor) -> None:
    with pytest.raises(InputError, match="10 different networks, got 1"):
        predictor.fit(TRAIN[:1] * 20, np.ones(20))


def test_lengths_must_agree(predictor: LatencyPredictor) -> None:
    with pytest.raises(ValueError, match="one value and one noise for each network"):
        predictor.fit(TRAIN, np.ones(3))


def test_predicting_before_fitting_is_an_error(predictor: LatencyPredictor) -> None:
    with pytest.raises(RuntimeError, match="fit the predictor"):
        predictor.predict_features(network_features(FRESH[:1]))


def test_equal_values_give_that_value(predictor: LatencyPredictor) -> None:
    found = predictor.fit(TRAIN[:12], np.full(12, 0.25)).predict(FRESH)
    np.testing.assert_allclose(found.mean, 0.25, rtol=1e-3)


@pytest.mark.parametrize(
    ("mean", "lower", "upper", "message"),
    [
        ([1.0], [1.1], [1.2], "must lie in its interval"),
        ([1.0, 1.0], [0.9], [1.2], "three"),
        ([np.inf], [0.9], [np.inf], "finite"),
        ([1.0], [0.0], [2.0], "above zero"),
    ],
)
def test_a_prediction_checks_itself(mean: list[float], lower: list[float], upper: list[float], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Prediction(np.array(mean), np.array(lower), np.array(upper))
