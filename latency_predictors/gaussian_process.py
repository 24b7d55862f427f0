"""GaussianProcessPredictor: non-negative costs, then a Gaussian process for what they leave unexplained.

What costs per layer cannot say (caches that overflow, calls that hide behind each other, kernels chosen by shape) is
smooth in the features, so the residuals of `latency_predictors.linear` on the log scale are given to a Gaussian process
with a squared-exponential plus a linear kernel. Its few settings (length scale, linear share, noise) are those with the
smallest mean absolute leave-one-out error, which has a closed form (Rasmussen and Williams, "Gaussian Processes for
Machine Learning", 2006, section 5.4.2, eq. 5.12); where none beats no correction by `LEAST_GAIN`, there is none and the
predictor is the linear one. Residuals are centred on their median and clipped, so that disturbed rows pull little, and
no correction is larger than the largest residual learned from: far outside the measured networks the costs decide.
"""

from itertools import product
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from latency_predictors.base import LatencyPredictor, Model
from latency_predictors.linear import fit_costs, log_costs

Floats = NDArray[np.float64]

LENGTHS = (0.5, 1.0, 2.0, 4.0)
"""Of the squared-exponential kernel, in units where random networks are about 1.4 apart."""
LINEAR = (0.0, 1.0)
"""Share of the linear kernel."""
NOISES = tuple(10.0 ** np.arange(-4, 2.1, 0.5))
"""Variance of the noise over that of the kernel."""
LEAST_GAIN = 0.01
"""By which the process must lower the leave-one-out error to be used."""
CLIP = 3.0
"""Residuals further than this many robust standard deviations from their median are moved there."""
MOST_INPUTS = 1000
"""Rows the process keeps, evenly spaced among all; time grows with the cube. The costs are fitted on all rows."""
_CHUNK = 1 << 22  # kernel values held in memory at once


class GaussianProcessPredictor(LatencyPredictor):
    """Non-negative costs corrected by a Gaussian process of their log residuals; see the module."""

    kind: ClassVar[str] = "gaussian_process"

    def _fit(self, features: Floats, logs: Floats, weights: Floats, like: Model | None) -> Model:
        model = fit_costs(features, logs, weights)
        kept = np.unique(np.linspace(0, len(features) - 1, min(len(features), MOST_INPUTS)).astype(int))
        features, weights = features[kept], weights[kept]
        residuals = logs[kept] - log_costs(model, features)
        offset = float(np.median(residuals))
        spread = 1.4826 * float(np.median(np.abs(residuals - offset)))
        targets = np.clip(residuals - offset, -CLIP * spread, CLIP * spread)
        centre, inverse_scale = _standard(features)
        inputs = (features - centre) * inverse_scale
        settings = _choose(inputs, targets, weights) if like is None else like["settings"]
        length, linear, noise, used = settings
        alpha = np.zeros(len(inputs))
        if used:
            alpha = np.linalg.solve(_kernel(inputs, inputs, length, linear) + np.diag(noise / weights), targets)
        return model | {
            "offset": np.array([offset]),
            "centre": centre,
            "inverse_scale": inverse_scale,
            "inputs": inputs,
            "settings": settings,
            "alpha": alpha,
            "bound": np.array([np.abs(targets).max()]),
        }

    def _predict(self, model: Model, features: Floats) -> Floats:
        logs: Floats = log_costs(model, features) + model["offset"]
        length, linear, _, used = model["settings"]
        if used:
            step = max(1, _CHUNK // len(model["inputs"]))
            for start in range(0, len(features), step):
                inputs = (features[start : start + step] - model["centre"]) * model["inverse_scale"]
                correction = _kernel(inputs, model["inputs"], length, linear) @ model["alpha"]
                logs[start : start + step] += np.clip(correction, -model["bound"], model["bound"])
        return logs


def _standard(features: Floats) -> tuple[Floats, Floats]:
    """Returns what takes features to mean 0 and a total variance of 1; columns that never change are dropped."""
    centre, spread = features.mean(axis=0), features.std(axis=0)
    varies = spread > 1e-9 * np.abs(centre)
    inverse_scale = np.zeros_like(spread)
    inverse_scale[varies] = 1 / (spread[varies] * np.sqrt(max(1, varies.sum())))
    return centre, inverse_scale


def _kernel(one: Floats, other: Floats, length: float, linear: float) -> Floats:
    products = one @ other.T
    distances = np.square(one).sum(axis=1)[:, None] + np.square(other).sum(axis=1) - 2 * products
    kernel: Floats = np.exp(-np.maximum(distances, 0) / (2 * length**2)) + linear * products
    return kernel


def _choose(inputs: Floats, targets: Floats, weights: Floats) -> Floats:
    """Returns (length, linear, noise, 1) with the least leave-one-out error, or (1, 0, 1, 0) for no correction."""
    best, error = (1.0, 0.0, 1.0, 0.0), (1 - LEAST_GAIN) * float(weights @ np.abs(targets))
    roots = np.sqrt(weights)
    for length, linear in product(LENGTHS, LINEAR):
        # With the rows scaled by the roots, the noise of every row is the same, and one decomposition does for all.
        kernel = roots[:, None] * _kernel(inputs, inputs, length, linear) * roots
        eigenvalues, vectors = np.linalg.eigh(kernel)
        eigenvalues = np.maximum(eigenvalues, 0)
        rotated, squares = vectors.T @ (roots * targets), np.square(vectors)
        for noise in NOISES:
            inverse = 1 / (eigenvalues + noise)
            left_out = (vectors @ (inverse * rotated)) / (squares @ inverse)  # times the root of the row's weight
            found = float(roots @ np.abs(left_out))
            if found < error:
                best, error = (length, linear, noise, 1.0), found
    return np.array(best)
