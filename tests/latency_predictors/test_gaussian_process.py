"""The correction: used where it helps, absent where costs say all."""

import numpy as np
import pytest

from latency_predictors import gaussian_process
from latency_predictors.features import FEATURE_NAMES, network_features
from latency_predictors.gaussian_process import GaussianProcessPredictor
from latency_predictors.linear import LinearPredictor
from latency_predictors.metrics import scores
from search_spaces.layer import LayerSpec
from tests.latency_predictors.roofline import additive_ms, tiny_networks

TRAIN, FRESH = tiny_networks(150, seed=1), tiny_networks(200, seed=2)


def _saturating_ms(networks: list[tuple[LayerSpec, ...]]) -> np.ndarray:
    """Latencies of a device that large networks use better than small ones: no sum over layers says that."""
    arithmetic = [name.endswith(".macs") and name.startswith("level") for name in FEATURE_NAMES]
    macs = network_features(networks)[:, arithmetic].sum(axis=1)
    return additive_ms(networks) / (1 + macs / 300_000)


def test_what_costs_cannot_say_is_learned() -> None:
    linear = LinearPredictor("latency_ms", "d").fit(TRAIN, _saturating_ms(TRAIN)).predict(FRESH)
    process = GaussianProcessPredictor("latency_ms", "d").fit(TRAIN, _saturating_ms(TRAIN)).predict(FRESH)
    truth = _saturating_ms(FRESH)
    assert scores(process, truth).mape < 0.3 * scores(linear, truth).mape
    assert scores(process, truth).interval_width < scores(linear, truth).interval_width


def test_far_outside_the_measured_networks_the_correction_stays_bounded() -> None:
    predictor = GaussianProcessPredictor("latency_ms", "d").fit(TRAIN, _saturating_ms(TRAIN))
    assert predictor.arrays()["0.settings"][-1] == 1
    far = network_features(FRESH[:3]) * 1e6
    linear = LinearPredictor("latency_ms", "d").fit(TRAIN, _saturating_ms(TRAIN))
    ratio = predictor.predict_features(far).mean / linear.predict_features(far).mean
    assert np.all((ratio > 0.5) & (ratio < 2))


def test_pure_noise_is_not_learned() -> None:
    values = additive_ms(TRAIN) * np.exp(np.random.default_rng(0).normal(0, 0.1, len(TRAIN)))
    linear = LinearPredictor("latency_ms", "d").fit(TRAIN, values).predict(FRESH)
    process = GaussianProcessPredictor("latency_ms", "d").fit(TRAIN, values).predict(FRESH)
    truth = additive_ms(FRESH)
    assert scores(process, truth).mape < 1.2 * scores(linear, truth).mape


def test_the_leave_one_out_errors_of_the_choice_are_those_of_refitting() -> None:
    rng = np.random.default_rng(0)
    inputs, weights = rng.normal(size=(15, 3)) / np.sqrt(3), rng.uniform(0.2, 1, 15)
    targets = np.sin(3 * inputs[:, 0]) + 0.01 * rng.normal(size=15)
    (length, linear, noise, used), least = gaussian_process._choose(inputs, targets, weights)
    assert used

    def error(length: float, linear: float, noise: float) -> float:
        total = 0.0
        for i in range(15):
            rest = np.arange(15) != i
            kernel = gaussian_process._kernel(inputs[rest], inputs[rest], length, linear)
            alpha = np.linalg.solve(kernel + np.diag(noise / weights[rest]), targets[rest])
            left_out = gaussian_process._kernel(inputs[[i]], inputs[rest], length, linear) @ alpha
            total += weights[i] * abs(left_out[0] - targets[i])
        return total

    grid = [
        (error(a, b, c), a, b, c)
        for a in gaussian_process.LENGTHS
        for b in gaussian_process.LINEAR
        for c in gaussian_process.NOISES
    ]
    assert min(grid)[1:] == (length, linear, noise)
    assert min(grid)[0] == pytest.approx(least)


def test_more_rows_than_the_process_keeps_are_thinned(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gaussian_process, "MOST_INPUTS", 60)
    predictor = GaussianProcessPredictor("latency_ms", "d").fit(TRAIN, _saturating_ms(TRAIN))
    assert predictor.arrays()["0.inputs"].shape[0] == 60
    assert scores(predictor.predict(FRESH), _saturating_ms(FRESH)).within_10 > 0.9
