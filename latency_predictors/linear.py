"""LinearPredictor: a latency is the sum of what each call, multiply-accumulate and moved value costs.

    latency = sum_j (c_j + d_j) x_j,   c >= 0,   x the physical features of `latency_predictors.features` and 1

Costs below zero are impossible on a device, and ruling them out is what makes some 70 coefficients learnable from 40
networks: non-negative least squares (Lawson and Hanson, "Solving Least Squares Problems", chapter 23) leaves only the
columns that explain something. Errors are judged on the log scale and by a robust loss, both through iteratively
reweighted least squares: a row's equation is divided by its own prediction, so that small and large networks count
alike, and rows far off lose weight (Cauchy's weights; Holland and Welsch, "Robust regression using iteratively
reweighted least-squares", 1977), so that a disturbed measurement does not bend the rest.

Such costs c are an upper bound to what adds up: calls also hide behind each other, and a kernel does its work faster in
one shape than in another. With enough rows that shows as a sum again, whose terms d may have either sign. They are
found by ridge regression (Hoerl and Kennard, Technometrics 12, 1970) of what c leaves unexplained, relative to the
prediction, as strong as predicts the rows best that the models behind the intervals left out, and are 0 where c alone
does: with few rows, or on devices that do add up. Far outside the measured networks c decides: d moves no
prediction further than it moved one that was learned from.
"""

import math
from collections.abc import Sequence
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import nnls

from latency_predictors.base import LatencyPredictor, Model

Floats = NDArray[np.float64]

ITERATIONS = 8
CAUCHY = 1.5
"""Width of Cauchy's weights in robust standard deviations. The usual 2.385 is 95 % efficient under Gaussian errors;
real latencies have a long upper tail, and 1.5 lost nothing on clean tables and gained where noise is skewed."""
_LEAST_SCALE = 1e-3  # relative; below it residuals are rounding, not errors
_FLOOR = 0.01  # share of the median below which no prediction falls, so that the logarithm exists
STRENGTHS = tuple(10.0 ** np.arange(-5, 3.1, 0.5))
"""Of the ridge, where a column's share of the predictions has a variance of 1 and rows have weights up to 1."""
CERTAIN = 2.0
"""Standard errors by which corrections must lower the mean error of rows left out to be used."""
LEAST_CORRECTED = 30
"""Rows from which on that is asked; of 10 or 20, a gain by chance is too often as certain."""


class LinearPredictor(LatencyPredictor):
    """Costs of the physical features, plus a constant; see the module.

    The strongest first guess for any device that works through its layers one by one, and the least that other
    predictors must beat. It extrapolates, because the costs without their corrections cannot be below 0.
    """

    kind: ClassVar[str] = "linear"

    def _fit(self, features: Floats, logs: Floats, weights: Floats) -> list[Model]:
        return fit_costs(features[:, self._summable], logs, weights)

    def _predict(self, models: Sequence[Model], features: Floats) -> Floats:
        return log_costs(models, features[:, self._summable])


def fit_costs(features: Floats, logs: Floats, weights: Floats, *, corrected: bool = True) -> list[Model]:
    """Returns the costs that explain measured values, robustly and on the log scale.

    Args:
        features: ``(n, d)``, at least 0.
        logs: ``(n,)``, natural logarithms of the values.
        weights: ``(n, k)``, of the rows in each of k models; 0 leaves a row out. The rows that the first sees and
            others leave out tell how much is corrected.
        corrected: whether there may be corrections.

    Returns:
        For each model ``costs`` ``(d + 1,)``, non-negative, the constant last; ``corrections`` to them ``(d + 1,)``, of
        either sign, and ``reach`` ``(1,)``, how far these move a logarithm at most; and ``floor`` ``(1,)``, the least
        value that is ever predicted.
    """
    fits = [_Fit(features[seen], logs[seen], own[seen]) for own in weights.T for seen in [own > 0]]
    if not corrected or len(logs) < LEAST_CORRECTED:
        return [fit.model(math.inf) for fit in fits]
    unseen = [(weights[:, 0] > 0) & (own == 0) for own in weights.T[1:]]

    def errors(strength: float) -> Floats:
        """Returns the error of each row, weighted, by the models that have not seen it."""
        found = np.zeros(len(logs))
        for fit, out in zip(fits[1:], unseen, strict=True):
            found[out] = np.abs(log_costs([fit.model(strength)], features[out])[0] - logs[out])
        return weights[:, 0] * found

    of = {strength: errors(strength) for strength in STRENGTHS}
    best = min(of, key=lambda strength: float(of[strength].sum()))
    gain = errors(math.inf) - of[best]
    enough = gain.sum() > CERTAIN * math.sqrt(len(gain)) * gain.std()
    return [fit.model(best if enough else math.inf) for fit in fits]


def log_costs(models: Sequence[Model], features: Floats) -> Floats:
    """Returns the logarithms ``(k, m)`` of what features ``(m, d)`` cost under k models of `fit_costs`."""
    floors = np.stack([model["floor"] for model in models])
    plain = np.maximum(_sums(np.stack([model["costs"] for model in models]), features), floors)
    logs: Floats = np.log(plain)
    # Earlier versions corrected nothing.
    if any("corrections" in model and model["corrections"].any() for model in models):
        corrections, reach = (np.stack([model[name] for model in models]) for name in ("corrections", "reach"))
        whole = np.maximum(plain + _sums(corrections, features), floors)
        logs += np.clip(np.log(whole / plain), -reach, reach)
    return logs


def _sums(costs: Floats, features: Floats) -> Floats:
    return np.asarray(costs[:, :-1] @ features.T + costs[:, -1:])


class _Fit:
    """The costs of one model, and corrections of any strength.

    Corrections are found on the columns' shares of the predictions, around their means and in units of their
    deviations, with a free intercept, which makes all costs larger or smaller alike.

    Args:
        features: ``(n, d)``.
        logs: ``(n,)``.
        weights: ``(n,)``, above 0.
    """

    def __init__(self, features: Floats, logs: Floats, weights: Floats) -> None:
        scale = features.max(axis=0)
        scale[scale == 0] = 1  # an absent column costs nothing
        self._units = np.append(scale, 1)
        self._columns = np.column_stack([features / scale, np.ones(len(features))])
        values = np.exp(logs)
        self._floor = _FLOOR * float(np.median(values))
        predicted, robust = values, weights
        for _ in range(ITERATIONS):
            # Divided by the prediction, so that residuals are relative; not by the value, which a bad row gets wrong.
            rows = np.sqrt(robust) / predicted
            costs, _ = nnls(self._columns * rows[:, None], values * rows, maxiter=100 * self._columns.shape[1])
            predicted = np.maximum(self._columns @ costs, self._floor)
            residuals = logs - np.log(predicted)
            spread = max(1.4826 * float(np.median(np.abs(residuals))), _LEAST_SCALE)
            robust = weights / (1 + np.square(residuals / (CAUCHY * spread)))
        self._costs, self._predicted = costs, predicted

        share = robust / robust.sum()
        shares = self._columns / predicted[:, None]
        self._centre = share @ shares
        deviation = np.sqrt(share @ np.square(shares - self._centre))
        varies = deviation > 1e-9 * np.abs(self._centre)
        self._inverse_scale = np.where(varies, 1 / np.where(varies, deviation, 1), 0)
        left = values / predicted - 1
        self._offset = float(share @ left)
        roots = np.sqrt(robust)
        inputs = roots[:, None] * (shares - self._centre) * self._inverse_scale
        vectors, self._singular, self._axes = np.linalg.svd(inputs, full_matrices=False)
        self._rotated = vectors.T @ (roots * (left - self._offset))

    def model(self, strength: float) -> Model:
        """Returns the model of `fit_costs` with a ridge of some strength; infinite for no corrections."""
        corrections = np.zeros(len(self._costs))
        if strength < math.inf:
            shrunk = self._singular / (np.square(self._singular) + strength)
            corrections = (self._axes.T @ (shrunk * self._rotated)) * self._inverse_scale
            corrections += (self._offset - corrections @ self._centre) * self._costs
        whole = np.maximum(self._columns @ (self._costs + corrections), self._floor)
        return {
            "costs": self._costs / self._units,
            "corrections": corrections / self._units,
            "reach": np.array([np.abs(np.log(whole / self._predicted)).max()]),
            "floor": np.array([self._floor]),
        }
