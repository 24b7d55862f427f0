"""GaussianProcessPredictor: costs of layers, then a Gaussian process for what they leave unexplained.

What costs per layer cannot say (caches that overflow, calls that hide behind each other, kernels chosen by shape) is
smooth in the features, and in the choices beside them where those are known. So the residuals of
`latency_predictors.linear` on the log scale are given to a Gaussian process with a squared-exponential plus a linear
kernel. Its few settings (length scale, linear share, noise, weight of the choices) are those with the smallest mean
absolute leave-one-out error, which has a closed form (Rasmussen and Williams, "Gaussian Processes for Machine
Learning", 2006, section 5.4.2, eq. 5.12); where none beats no correction by `LEAST_GAIN`, there is none and the
predictor is the linear one. Residuals are centred on their median and clipped, and rows that were clipped lose weight,
so that disturbed rows pull little; and no correction is larger than the largest residual learned from: far outside the
measured networks the costs decide.
"""

from collections.abc import Sequence
from itertools import product
from typing import ClassVar, NamedTuple

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
CHOICES = (0.0, 0.5, 1.0)
"""Weight of the choices beside the physical features, where the columns have both."""
LEAST_GAIN = 0.01
"""By which the process must lower the leave-one-out error to be used."""
CLIP = 3.0
"""Residuals further than this many robust standard deviations from their median are moved there."""
MOST_INPUTS = 1000
"""Rows the process keeps, evenly spaced among all; time grows with the cube. The costs are fitted on all rows."""
MOST_COMPARED = 400
"""Rows, evenly spaced, that the settings are chosen on."""
_LEAST_REACH = 1e-9  # below it residuals are rounding
_CHUNK = 1 << 22  # kernel values held in memory at once


class GaussianProcessPredictor(LatencyPredictor):
    """Costs of layers corrected by a Gaussian process of their log residuals; see the module."""

    kind: ClassVar[str] = "gaussian_process"

    def _fit(self, features: Floats, logs: Floats, weights: Floats) -> list[Model]:
        physical, choices = self._summable, self._choices & ~self._summable
        models = fit_costs(features[:, physical], logs, weights)
        kept = np.unique(np.linspace(0, len(features) - 1, min(len(features), MOST_INPUTS)).astype(int))
        features, logs, weights = features[kept], logs[kept], weights[kept]
        residuals = log_residuals(models, features[:, physical], logs, weights)
        centre, scale = _standard(features, physical)
        choice_scale = _standard(features, choices)[1]
        few = np.unique(np.linspace(0, len(features) - 1, min(len(features), MOST_COMPARED)).astype(int))
        found = [
            (*_choose(((features - centre) * (scale + share * choice_scale))[few], residuals[0].targets[few],
                      residuals[0].weights[few]), share)
            for share in (CHOICES if choices.any() else CHOICES[:1])
        ]  # fmt: skip
        settings, _, share = min(found, key=lambda chosen: chosen[1])
        length, linear, noise, used = settings
        inverse_scale = scale + share * choice_scale
        inputs = (features - centre) * inverse_scale
        kernel = _kernel(inputs, inputs, length, linear) if used else None
        for model, residual in zip(models, residuals, strict=True):
            own = residual.weights
            alpha, seen = np.zeros(len(inputs)), own > 0
            if kernel is not None:
                within = kernel[np.ix_(seen, seen)] + np.diag(noise / own[seen])
                alpha[seen] = np.linalg.solve(within, residual.targets[seen])
            model |= {"offset": np.array([residual.offset]), "alpha": alpha, "bound": np.array([residual.bound])}
        # The same arrays in all models: rows that a model must not see have weight 0 in its alpha.
        shared = {"centre": centre, "inverse_scale": inverse_scale, "inputs": inputs, "settings": settings}
        return [model | shared for model in models]

    def _predict(self, models: Sequence[Model], features: Floats) -> Floats:
        if all(model["inputs"] is models[0]["inputs"] for model in models):
            return self._predict_alike(models, features)
        # Saved by an earlier version: each has inputs of its own.
        return np.concatenate([self._predict_alike([model], features) for model in models])

    def _predict_alike(self, models: Sequence[Model], features: Floats) -> Floats:
        logs = log_costs(models, features[:, self._summable]) + np.stack([model["offset"] for model in models])
        shared = models[0]
        length, linear, _, used = shared["settings"]
        if used:
            alphas = np.stack([model["alpha"] for model in models], axis=1)
            bounds = np.stack([model["bound"] for model in models])
            step = max(1, _CHUNK // len(shared["inputs"]))
            for start in range(0, len(features), step):
                part = slice(start, start + step)
                inputs = (features[part] - shared["centre"]) * shared["inverse_scale"]
                corrections = (_kernel(inputs, shared["inputs"], length, linear) @ alphas).T
                logs[:, part] += np.clip(corrections, -bounds, bounds)
        return logs


def log_residuals(models: Sequence[Model], features: Floats, logs: Floats, weights: Floats) -> list["LogResiduals"]:
    """Returns, for each of k models of `fit_costs`, what it leaves unexplained of the rows it saw.

    Args:
        models: of `fit_costs`.
        features: ``(n, d)``, of those costs.
        logs: ``(n,)``, natural logarithms of the values.
        weights: ``(n, k)``; 0 where a model did not see the row.
    """
    found = []
    for residuals, own in zip(logs - log_costs(models, features), weights.T, strict=True):
        seen = residuals[own > 0]
        offset = float(np.median(seen))
        reach = CLIP * 1.4826 * float(np.median(np.abs(seen - offset)))
        far, targets = np.abs(residuals - offset), np.clip(residuals - offset, -reach, reach)
        fades = np.divide(reach, far, out=np.ones(len(far)), where=far > max(reach, _LEAST_REACH)) ** 2
        found.append(LogResiduals(offset, targets, own * fades, float(np.abs(targets[own > 0]).max())))
    return found


class LogResiduals(NamedTuple):
    """What costs leave unexplained, robustly.

    Attributes:
        offset: the median.
        targets: ``(n,)``, residuals less the median, clipped.
        weights: ``(n,)``, of the rows; those that were clipped fade with the square of how far off they are.
        bound: largest absolute target among the rows seen.
    """

    offset: float
    targets: Floats
    weights: Floats
    bound: float


def _standard(features: Floats, columns: NDArray[np.bool_]) -> tuple[Floats, Floats]:
    """Returns what takes some columns to mean 0 and a total variance of 1; others, and constant ones, are dropped."""
    centre, spread = features.mean(axis=0), features.std(axis=0)
    varies = columns & (spread > 1e-9 * np.abs(centre))
    inverse_scale = np.zeros_like(spread)
    inverse_scale[varies] = 1 / (spread[varies] * np.sqrt(max(1, varies.sum())))
    return centre, inverse_scale


def _kernel(one: Floats, other: Floats, length: float, linear: float) -> Floats:
    products = one @ other.T
    distances = np.square(one).sum(axis=1)[:, None] + np.square(other).sum(axis=1) - 2 * products
    kernel: Floats = np.exp(-np.maximum(distances, 0) / (2 * length**2)) + linear * products
    return kernel


def _choose(inputs: Floats, targets: Floats, weights: Floats) -> tuple[Floats, float]:
    """Returns the settings with the least leave-one-out error, and that error.

    The settings are (length, linear, noise, 1), or (1, 0, 1, 0) for no correction.
    """
    settings, error = (1.0, 0.0, 1.0, 0.0), (1 - LEAST_GAIN) * float(weights @ np.abs(targets))
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
                settings, error = (length, linear, noise, 1.0), found
    return np.array(settings), error
