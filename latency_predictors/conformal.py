"""Prediction intervals, and probabilities, that hold without a belief about the errors: CV+.

Source: Barber, Candès, Ramdas and Tibshirani, "Predictive inference with the jackknife+", arXiv:1905.02928, section 3
(CV+). Every row is left out once; its residual under the model that has not seen it, and what that same model says
about the new network, give one guess of how high and how low the new value may be; finite-sample quantiles of the
guesses are the interval. Where rows are exchangeable the coverage is at least ``1 - 2 alpha`` (and a little for finite
folds), whatever the model; in practice it is close to ``1 - alpha``.

The share of all these guesses at or below a bound is the probability that the new value is: a conformal predictive
distribution (Vovk, Shen, Manokhin and Xie, "Nonparametric predictive distributions based on conformal prediction",
Machine Learning 108, 2019, definition 1; across folds: Vovk, Nouretdinov, Manokhin and Gammerman, "Cross-conformal
predictive distributions", PMLR 91, 2018). Theirs takes the residuals with their signs; taken both ways, as here, they
give the distribution whose central intervals are those of CV+.
"""

import math

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Integers = NDArray[np.int64]
_CHUNK = 256  # networks looked at together; few, as their fold predictions then differ little


def least_rows(level: float) -> int:
    """Returns how many rows an interval of a level needs: with fewer the quantile is infinite."""
    return math.ceil(level / (1 - level) - 1e-9)


def fold_numbers(features: Floats, folds: int, rng: np.random.Generator) -> Integers:
    """Returns the fold of each row, ``(n,)`` from 0; equal rows share a fold and fold sizes differ by little.

    Two measurements of one network, or of two networks that no feature tells apart, must not stand on both sides.

    Args:
        features: ``(n, d)``.
        folds: at least 2; fewer come out where there are fewer distinct rows.
        rng: shuffles.
    """
    _, groups, sizes = np.unique(features, axis=0, return_inverse=True, return_counts=True)
    order = rng.permutation(len(sizes))
    order = order[np.argsort(-sizes[order], kind="stable")]  # large groups first, so that small ones even out
    folds = min(folds, len(sizes))
    rows_in = np.zeros(folds, dtype=np.int64)
    fold_of_group = np.empty(len(sizes), dtype=np.int64)
    for group in order:
        fold = int(rows_in.argmin())
        fold_of_group[group] = fold
        rows_in[fold] += sizes[group]
    return fold_of_group[groups.reshape(-1)]


def cv_plus(fold_predictions: Floats, fold: Integers, residuals: Floats, level: float) -> tuple[Floats, Floats]:
    """Returns the lower and upper ends of the intervals of new networks, each ``(m,)``.

    Args:
        fold_predictions: ``(folds, m)``, what the model that left out each fold says about the new networks.
        fold: ``(n,)``, the fold of each row learned from.
        residuals: ``(n,)``, how far the model that left a row out was from it; at least 0.
        level: wanted coverage, such as 0.9.

    Raises:
        ValueError: too few rows for the level.
    """
    rows, new = len(residuals), fold_predictions.shape[1]
    rank = math.ceil(level * (rows + 1) - 1e-9)
    if rank > rows:
        raise ValueError(f"an interval of level {level} needs at least {least_rows(level)} rows, got {rows}")
    order = np.argsort(residuals, kind="stable")
    fold, residuals = fold[order], residuals[order]
    lower, upper = np.empty(new), np.empty(new)
    for start in range(0, new, _CHUNK):
        part = slice(start, start + _CHUNK)
        upper[part] = _select(fold_predictions[:, part], fold, residuals, rank)
        # The same rank counted from the other end: floor(alpha (n + 1)) from below.
        lower[part] = -_select(-fold_predictions[:, part], fold, residuals, rank)
    return lower, upper


def share_within(fold_predictions: Floats, fold: Integers, residuals: Floats, bound: Floats | float) -> Floats:
    """Returns the probability ``(m,)`` that the value of a new network is at most a bound.

    It is ``(1 + k) / (2 n + 2)``, k of the 2 n guesses ``fold prediction ± residual`` being at most the bound, and so
    never 0 or 1. The ends of an interval of level L (`cv_plus`) have the probabilities ``(1 ± L) / 2``, to one guess.

    Args:
        fold_predictions: as `cv_plus`.
        fold: likewise.
        residuals: likewise.
        bound: a number, or one for each network ``(m,)``.
    """
    guesses = np.ones(fold_predictions.shape[1])
    for number, centres in enumerate(fold_predictions):
        own = np.sort(residuals[fold == number])
        guesses += np.searchsorted(own, bound - centres, side="right")
        guesses += len(own) - np.searchsorted(own, centres - bound, side="left")
    return guesses / (2 * len(residuals) + 2)


def _select(centres: Floats, fold: Integers, residuals: Floats, rank: int) -> Floats:
    """Returns for each network the guess of a rank, counted from 1, among ``centres[fold] + residuals``.

    Args:
        centres: ``(folds, m)``.
        fold: ``(n,)``.
        residuals: ``(n,)``, ascending.
        rank: 1 to n.
    """
    # The guess wanted lies between the least and the largest centre plus the residual of that rank: guesses with much
    # smaller residuals are below it, those with much larger ones above, and need not be looked at.
    reach = float(np.ptp(centres, axis=0).max())
    reach += 1e-12 * (1 + abs(float(residuals[rank - 1])))  # rounding
    begin, end = np.searchsorted(residuals, residuals[rank - 1] + np.array([-reach, reach]))
    begin, end = min(begin, rank - 1), max(end, rank)
    guesses = centres[fold[begin:end]] + residuals[begin:end, None]
    return np.asarray(np.partition(guesses, rank - 1 - begin, axis=0)[rank - 1 - begin])
