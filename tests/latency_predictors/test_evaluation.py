"""Cross-validation is honest, and the better kind is chosen."""

import json

import numpy as np
import pytest

from latency_predictors.base import LatencyPredictor
from latency_predictors.evaluation import cross_validate, fit_predictor
from latency_predictors.features import network_features
from latency_predictors.kinds import list_kinds, predictor_kind
from search_spaces.errors import InputError
from tests.latency_predictors.roofline import additive_ms, roofline_ms, tiny_networks

NETWORKS = tiny_networks(60, seed=1)
FEATURES = network_features(NETWORKS)
NOISY_MS = roofline_ms(NETWORKS) * np.exp(np.random.default_rng(0).normal(0, 0.03, len(NETWORKS)))


@pytest.mark.parametrize("kind", list_kinds())
def test_values_that_mean_nothing_are_not_predicted_and_yet_covered(kind: str) -> None:
    values = np.exp(np.random.default_rng(1).normal(0, 0.5, len(NETWORKS)))
    found = cross_validate(kind, FEATURES, values, repeats=2).scores
    assert abs(found.spearman) < 0.35
    assert 0.82 <= found.coverage <= 1


@pytest.mark.parametrize("kind", list_kinds())
def test_copies_of_a_network_never_stand_on_both_sides(kind: str) -> None:
    values = np.exp(np.random.default_rng(1).normal(0, 0.5, len(NETWORKS)))
    found = cross_validate(kind, np.tile(FEATURES, (3, 1)), np.tile(values, 3), repeats=1).scores
    assert found.spearman < 0.35


def test_nothing_of_a_fold_reaches_the_predictor_that_is_scored_on_it(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[set[float]] = []
    scored: list[set[float]] = []
    fit, predict = LatencyPredictor.fit_features, LatencyPredictor.predict_features

    def watched_fit(self, features, values, noise=None):
        seen.append(set(features[:, 1]))
        return fit(self, features, values, noise)

    def watched_predict(self, features):
        scored.append(set(features[:, 1]))
        return predict(self, features)

    monkeypatch.setattr(LatencyPredictor, "fit_features", watched_fit)
    monkeypatch.setattr(LatencyPredictor, "predict_features", watched_predict)
    marked = FEATURES.copy()
    marked[:, 1] = np.arange(len(marked))  # a column that tells rows apart
    cross_validate("linear", marked, NOISY_MS, repeats=1)
    assert len(seen) == len(scored) == 5
    assert all(not (left & right) for left, right in zip(seen, scored, strict=True))
    assert set.union(*scored) == set(range(len(marked)))


def test_a_report_is_one_flat_row_of_json() -> None:
    row = cross_validate("linear", FEATURES, NOISY_MS, repeats=1).to_dict()
    assert json.loads(json.dumps(row)) == row
    assert row["kind"] == "linear"
    assert row["rows"] == 60
    assert 0 < row["mape"] < 0.1


def test_all_kinds_are_tried_and_the_best_comes_first() -> None:
    fitted = fit_predictor(NETWORKS, NOISY_MS, metric="latency_ms", device="d", repeats=1)
    assert {validation.kind for validation in fitted.validations} == set(list_kinds())
    errors = [validation.scores.log_error for validation in fitted.validations]
    assert errors == sorted(errors)
    assert fitted.predictor.kind == fitted.validations[0].kind
    assert (fitted.predictor.metric, fitted.predictor.device) == ("latency_ms", "d")


def test_the_learning_curve_of_a_fitted_predictor_ends_at_the_error_of_all_rows() -> None:
    fitted = fit_predictor(NETWORKS, NOISY_MS, metric="latency_ms", device="d", kinds=["linear"], repeats=1)
    assert [step.rows for step in fitted.learning] == [15, 30, 60]
    first, _, last = fitted.learning
    assert last.error < first.error, "so smooth a device is known better from more networks"
    held_out = fitted.predictor.predict_held_out(FEATURES).mean
    assert last.error == pytest.approx(np.abs(held_out / NOISY_MS - 1).mean(), rel=0.2)
    assert all(step.error_lower <= step.error <= step.error_upper for step in fitted.learning)
    assert last.bank_share is None


def test_the_simpler_kind_wins_a_tie() -> None:
    fitted = fit_predictor(NETWORKS, np.full(60, 2.0), metric="latency_ms", device="d", repeats=1)
    assert fitted.predictor.kind == "linear"


def test_the_training_set_is_known_by_its_rows_not_by_their_order() -> None:
    def digest(order: np.ndarray, values: np.ndarray) -> str:
        networks = [NETWORKS[i] for i in order]
        return fit_predictor(
            networks, values[order], metric="latency_ms", device="d", kinds=["linear"], repeats=1
        ).training_set

    forward = np.arange(60)
    values = additive_ms(NETWORKS)
    assert digest(forward, values) == digest(forward[::-1], values)
    assert digest(forward, values) != digest(forward, values * (1 + 1e-12))


def test_too_few_networks_to_validate_are_refused_before_anything_is_fitted() -> None:
    with pytest.raises(InputError, match="needs at least 13 different networks, got 12: measure more"):
        fit_predictor(NETWORKS[:12], NOISY_MS[:12], metric="latency_ms", device="d")


def test_thirteen_networks_are_enough() -> None:
    assert len(fit_predictor(NETWORKS[:13], NOISY_MS[:13], metric="latency_ms", device="d").validations) == len(
        list_kinds()
    )


def test_an_unknown_kind_names_the_near_one() -> None:
    with pytest.raises(InputError, match="did you mean 'linear'"):
        predictor_kind("linaer")
