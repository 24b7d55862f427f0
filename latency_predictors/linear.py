"""LinearPredictor: a latency is the sum of what each call, multiply-accumulate and moved value costs, never below 0.

    latency = c_0 + sum_j c_j x_j,   c >= 0,   x the physical features of `latency_predictors.features`

Costs below zero are impossible on a device, and ruling them out is what makes some 70 coefficients learnable from 40
networks: non-negative least squares (Lawson and Hanson, "Solving Least Squares Problems", chapter 23) leaves only the
columns that explain something. Errors are judged on the log scale and by a robust loss, both through iteratively
reweighted least squares: a row's equation is divided by its own prediction, so that small and large networks count
alike, and rows far off lose weight (Cauchy's weights; Holland and Welsch, "Robust regression using iteratively
reweighted least-squares", 1977), so that a disturbed measurement does not bend the rest.
"""

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


class LinearPredictor(LatencyPredictor):
    """Non-negative costs of the physical features, plus a constant; see the module.

    The strongest first guess for any device that works through its layers one by one, and the least that other
    predictors must beat. It extrapolates: twice the arithmetic costs at most twice the time.
    """

    kind: ClassVar[str] = "linear"

    def costs(self) -> dict[str, float]:
        """Returns the learned cost of each feature that has one, in the metric's unit per unit of the feature.

        ``constant`` is what every network pays.
        """
        names = [name for name, summed in zip(self.columns, self._summable, strict=True) if summed]
        costs = self._models[0]["costs"]
        return {n: float(c) for n, c in zip((*names, "constant"), costs, strict=True) if c > 0}

    def _fit(self, features: Floats, logs: Floats, weights: Floats) -> list[Model]:
        return fit_costs(features[:, self._summable], logs, weights)

    def _predict(self, models: Sequence[Model], features: Floats) -> Floats:
        return log_costs(models, features[:, self._summable])


def fit_costs(features: Floats, logs: Floats, weights: Floats) -> list[Model]:
    """Returns the non-negative costs that explain measured values, robustly and on the log scale.

    Args:
        features: ``(n, d)``, at least 0.
        logs: ``(n,)``, natural logarithms of the values.
        weights: ``(n, k)``, of the rows in each of k models; 0 leaves a row out.

    Returns:
        For each model ``costs`` ``(d + 1,)``, the constant last, and ``floor`` ``(1,)``, the least value that is ever
        predicted.
    """
    return [_fit_costs(features[seen], logs[seen], own[seen]) for own in weights.T for seen in [own > 0]]


def log_costs(models: Sequence[Model], features: Floats) -> Floats:
    """Returns the logarithms ``(k, m)`` of what features ``(m, d)`` cost under k models of `fit_costs`."""
    costs = np.stack([model["costs"] for model in models])
    floors = np.stack([model["floor"] for model in models])
    return np.asarray(np.log(np.maximum(costs[:, :-1] @ features.T + costs[:, -1:], floors)))


def _fit_costs(features: Floats, logs: Floats, weights: Floats) -> Model:
    values = np.exp(logs)
    scale = features.max(axis=0)
    scale[scale == 0] = 1  # an absent column costs nothing
    columns = np.column_stack([features / scale, np.ones(len(features))])
    floor = _FLOOR * np.median(values)
    predicted, robust = values, weights
    for _ in range(ITERATIONS):
        # Divided by the prediction, so that residuals are relative; not by the value, which a bad row gets wrong.
        rows = np.sqrt(robust) / predicted
        costs, _ = nnls(columns * rows[:, None], values * rows, maxiter=100 * columns.shape[1])
        predicted = np.maximum(columns @ costs, floor)
        residuals = logs - np.log(predicted)
        spread = max(1.4826 * float(np.median(np.abs(residuals))), _LEAST_SCALE)
        robust = weights / (1 + np.square(residuals / (CAUCHY * spread)))
    return {"costs": costs / np.append(scale, 1), "floor": np.array([floor])}
