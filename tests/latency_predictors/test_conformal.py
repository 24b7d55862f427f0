"""CV+ against its definition and against its promise."""

import math

import numpy as np
import pytest

from latency_predictors import conformal
from latency_predictors.conformal import cv_plus, fold_numbers, least_rows, share_within


def test_the_ends_are_the_finite_sample_quantiles_of_the_definition(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(conformal, "_CHUNK", 60)  # so that new networks come in several chunks
    rng = np.random.default_rng(0)
    rows, new, level = 25, 7, 0.9
    fold, residuals = rng.integers(0, 4, rows), rng.exponential(size=rows)
    predictions = rng.normal(size=(4, new))
    lower, upper = cv_plus(predictions, fold, residuals, level)
    for x in range(new):
        high = sorted(predictions[fold[i], x] + residuals[i] for i in range(rows))
        low = sorted(predictions[fold[i], x] - residuals[i] for i in range(rows))
        # Barber et al., equation (14): the ceil((1 - a)(n + 1))-th and the floor(a (n + 1))-th smallest.
        assert upper[x] == high[math.ceil(0.9 * 26) - 1]
        assert lower[x] == low[math.floor(0.1 * 26) - 1]


def test_intervals_of_an_overfitting_model_cover_what_they_promise() -> None:
    rng = np.random.default_rng(1)
    covered = []
    for _ in range(200):
        # 30 rows, 12 useless columns and heavy tails: residuals of the training rows would cover about 60 %.
        x, y = rng.normal(size=(130, 12)), rng.standard_t(3, size=130)
        train, test = slice(0, 30), slice(30, 130)
        fold = fold_numbers(x[train], 10, rng)
        models = [np.linalg.lstsq(x[train][fold != k], y[train][fold != k], rcond=None)[0] for k in range(10)]
        predictions = np.stack([x @ model for model in models])
        residuals = np.abs(y[train] - predictions[fold, np.arange(30)])
        lower, upper = cv_plus(predictions[:, test], fold, residuals, 0.9)
        covered.append(np.mean((lower <= y[test]) & (y[test] <= upper)))
    assert 0.88 <= np.mean(covered) <= 0.97


@pytest.mark.parametrize("level", [0.5, 0.8, 0.9, 0.95])
def test_the_least_number_of_rows_is_the_first_that_gives_an_interval(level: float) -> None:
    rows = least_rows(level)
    fold = np.arange(rows) % 2
    cv_plus(np.zeros((2, 1)), fold, np.ones(rows), level)
    with pytest.raises(ValueError, match=f"needs at least {rows} rows, got {rows - 1}"):
        cv_plus(np.zeros((2, 1)), fold[1:], np.ones(rows - 1), level)


def test_equal_rows_share_a_fold_and_folds_are_even() -> None:
    rng = np.random.default_rng(0)
    features = np.repeat(rng.normal(size=(37, 3)), rng.integers(1, 4, 37), axis=0)
    features = features[rng.permutation(len(features))]
    fold = fold_numbers(features, 5, rng)
    _, groups = np.unique(features, axis=0, return_inverse=True)
    assert all(len(set(fold[groups.ravel() == group])) == 1 for group in range(37))
    sizes = np.bincount(fold)
    assert len(sizes) == 5
    assert sizes.max() - sizes.min() <= 3


def test_there_are_never_more_folds_than_different_rows_nor_an_empty_fold() -> None:
    fold = fold_numbers(np.array([[0.0], [1.0], [1.0], [2.0]]), 10, np.random.default_rng(0))
    assert sorted(set(fold.tolist())) == [0, 1, 2]


def test_the_probability_is_the_share_of_the_guesses_that_the_definition_gives() -> None:
    rng = np.random.default_rng(2)
    rows, new = 25, 7
    fold, residuals = rng.integers(0, 4, rows), rng.exponential(size=rows)
    predictions, bounds = rng.normal(size=(4, new)), rng.normal(size=new)
    found = share_within(predictions, fold, residuals, bounds)
    for x in range(new):
        guesses = [predictions[fold[i], x] + sign * residuals[i] for i in range(rows) for sign in (-1, 1)]
        assert found[x] == (1 + sum(guess <= bounds[x] for guess in guesses)) / 52


@pytest.mark.parametrize("level", [0.5, 0.8, 0.9])
def test_the_ends_of_an_interval_have_its_probabilities(level: float) -> None:
    rng = np.random.default_rng(3)
    rows, new = 59, 40
    fold, residuals = np.arange(rows) % 10, rng.exponential(size=rows)
    predictions = rng.normal(0, 0.05, (10, new))
    lower, upper = cv_plus(predictions, fold, residuals, level)
    np.testing.assert_allclose(share_within(predictions, fold, residuals, upper + 1e-9), (1 + level) / 2, atol=1e-9)
    np.testing.assert_allclose(share_within(predictions, fold, residuals, lower - 1e-9), (1 - level) / 2, atol=1e-9)


def test_a_bound_beyond_all_guesses_is_never_certain() -> None:
    fold, residuals, bounds = np.arange(19) % 2, np.ones(19), np.array([-9.0, 9.0])
    found = share_within(np.zeros((2, 2)), fold, residuals, bounds)
    assert found.tolist() == [1 / 40, 39 / 40]
