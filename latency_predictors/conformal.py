"""Prediction intervals that hold without a belief about the errors: CV+.

Source: Barber, Candès, Ramdas and Tibshirani, "Predictive inference with the jackknife+", arXiv:1905.02928, section 3
(CV+). Every row is left out once; its residual under the model that has not seen it, and what that same model says
about the new network, give one guess of how high and how low the new value may be; finite-sample quantiles of the
guesses are the interval. Where rows are exchangeable the coverage is at least ``1 - 2 alpha`` (and a little for finite
folds), whatever the model; in practice it is close to ``1 - alpha``.
"""

import math

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Integers = NDArray[np.int64]
_CHUNK = 1 << 22  # guesses held in memory at once


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
    lower, upper = np.empty(new), np.empty(new)
    step = max(1, _CHUNK // rows)
    for start in range(0, new, step):
        part = slice(start, min(start + step, new))
        centres = fold_predictions[fold, part]
        upper[part] = np.partition(centres + residuals[:, None], rank - 1, axis=0)[rank - 1]
        # The same rank counted from the other end: floor(alpha (n + 1)) from below.
        lower[part] = np.partition(centres - residuals[:, None], rows - rank, axis=0)[rows - rank]
    return lower, upper
