"""GaussianProcess: accuracy as a function of an architecture's encoding and of its physical features.

The kernel is a sum of three parts, each with a scale of its own: a Matérn 5/2 over the encoding, a Matérn 5/2 over the
physical features (one length scale a column in both), and a linear one over the physical features, which carries the
trend "more MACs, more accuracy" beyond the networks seen so far. Kernels and marginal likelihood: Rasmussen and
Williams, "Gaussian Processes for Machine Learning", 2006, eq. 4.17 and 5.8. Length scales have log-normal priors whose
centre grows with the square root of the number of columns (Hvarfner, Hellsten and Nardi, "Vanilla Bayesian
optimization performs great in high dimensions", ICML 2024).
"""

from dataclasses import dataclass
from typing import Self

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import LinAlgError, cho_solve, cholesky, solve_triangular
from scipy.optimize import minimize

Floats = NDArray[np.float64]

_JITTER = 1e-6
_LOG_SCALE_PRIOR = (-0.5, 1.0)  # of each part's variance, targets having variance 1
_LOG_LINEAR_PRIOR = (-2.0, 1.0)
_LOG_NUGGET_PRIOR = (-3.0, 1.0)
_LENGTH_PRIOR_WIDTH = 0.75


@dataclass(frozen=True)
class Columns:
    """What the kernel reads about networks.

    Attributes:
        encoding: ``(n, e)`` on the scale 0 to 1.
        features: ``(n, f)`` standardised; f may be 0.
    """

    encoding: Floats
    features: Floats

    def __len__(self) -> int:
        return len(self.encoding)

    def __getitem__(self, rows: NDArray[np.intp] | slice) -> "Columns":
        return Columns(self.encoding[rows], self.features[rows])

    def joined(self, other: "Columns") -> "Columns":
        """Returns these rows followed by others."""
        return Columns(np.concatenate([self.encoding, other.encoding]), np.concatenate([self.features, other.features]))


@dataclass(frozen=True)
class Scaled:
    """Networks as a kernel with its hyperparameters reads them.

    Attributes:
        parts: of each Matérn part its variance and ``(n, k)`` columns over their length scales.
        linear: ``(n, f)`` features times the standard deviation of the linear part.
    """

    parts: tuple[tuple[float, Floats], ...]
    linear: Floats


class Kernel:
    """A covariance with its hyperparameters, for targets of mean 0 and variance 1.

    Attributes:
        theta: ``(t,)`` logarithms: scale and length scales of each Matérn part, scale of the linear part where there
            are features, nugget.
    """

    def __init__(self, theta: Floats, encoding: int, features: int) -> None:
        self.theta = theta
        self._sizes = [size for size in (encoding, features) if size]
        self._linear = features > 0

    @property
    def nugget(self) -> float:
        """Variance of what the columns do not explain and a repeated evaluation repeats."""
        return float(np.exp(self.theta[-1]))

    def scaled(self, columns: Columns) -> Scaled:
        """Returns networks as the covariances are worked out from."""
        parts, at = [], 0
        for block in (columns.encoding, columns.features):
            size = block.shape[1]
            if size:
                parts.append((float(np.exp(self.theta[at])), block * np.exp(-self.theta[at + 1 : at + 1 + size])))
                at += 1 + size
        linear = np.exp(0.5 * self.theta[-2]) * columns.features if self._linear else columns.features
        return Scaled(tuple(parts), linear)

    def __call__(self, one: Scaled, other: Scaled) -> Floats:
        """Returns ``(n, k)`` covariances, nugget left out."""
        covariance: Floats = one.linear @ other.linear.T
        for (scale, a), (_, b) in zip(one.parts, other.parts, strict=True):
            covariance += scale * _matern(a, b)
        return covariance

    def variance(self, one: Scaled) -> Floats:
        """Returns ``(n,)`` prior variances, nugget left out."""
        total: Floats = (one.linear * one.linear).sum(1) + sum(scale for scale, _ in one.parts)
        return total

    @classmethod
    def fit(cls, columns: Columns, targets: Floats, noise: Floats, iterations: int = 50) -> Self:
        """Returns the kernel of greatest posterior density (marginal likelihood times priors).

        Args:
            columns: of n networks.
            targets: ``(n,)`` of mean 0 and variance 1.
            noise: ``(n,)`` variances of the targets' known observation noise.
            iterations: of L-BFGS, at most.
        """
        sizes = columns.encoding.shape[1], columns.features.shape[1]
        centre, width = _priors(*sizes)

        def loss(theta: Floats) -> tuple[float, Floats]:
            value, gradient = cls(theta, *sizes)._evidence(columns, targets, noise)
            error = (theta - centre) / width
            return value + 0.5 * float(error @ error), gradient + error / width

        bounds = list(zip(centre - 4 * width, centre + 4 * width, strict=True))
        found = minimize(loss, centre, jac=True, method="L-BFGS-B", bounds=bounds, options={"maxiter": iterations})
        return cls(found.x, *sizes)

    def _evidence(self, columns: Columns, targets: Floats, noise: Floats) -> tuple[float, Floats]:
        """Returns the negative log marginal likelihood (less a constant) and its gradient."""
        covariance = np.diag(self.nugget + noise + _JITTER)
        pieces = []
        for scale, block in self.scaled(columns).parts:
            matern, slope = _matern_and_slope(block)
            covariance += scale * matern
            pieces.append((scale * matern, scale * slope, block))
        linear = np.exp(self.theta[-2]) * (columns.features @ columns.features.T) if self._linear else None
        if linear is not None:
            covariance += linear
        try:
            factor = cholesky(covariance, lower=True, check_finite=False)
        except LinAlgError:
            return 1e10, np.zeros_like(self.theta)
        inverse = cho_solve((factor, True), np.eye(len(targets)), check_finite=False)
        weights = inverse @ targets
        value = 0.5 * float(targets @ weights) + float(np.log(np.diag(factor)).sum())
        inner = 0.5 * (inverse - np.outer(weights, weights))  # d value / d covariance
        gradient = []
        for matern, slope, block in pieces:
            gradient.append([np.vdot(inner, matern)])
            pull = inner * slope
            # sum over pairs of pull_ij (x_ik - x_jk)^2, for all columns k at once.
            spread = 2 * ((block * block).T @ pull.sum(1) - ((pull @ block) * block).sum(0))
            gradient.append(-2 * spread)
        if linear is not None:
            gradient.append([np.vdot(inner, linear)])
        gradient.append([self.nugget * np.trace(inner)])
        return value, np.concatenate(gradient)


def _priors(encoding: int, features: int) -> tuple[Floats, Floats]:
    """Returns centre and width of the normal prior of each logarithm in `Kernel.theta`."""
    priors = []
    for size in (encoding, features):
        if size:
            # Encoded columns lie in 0..1, standardised features are about three times as wide.
            centre = 0.5 * np.log(size) - (0.3 if size == encoding else 0.0)
            priors += [_LOG_SCALE_PRIOR, *[(centre, _LENGTH_PRIOR_WIDTH)] * size]
    if features:
        priors.append(_LOG_LINEAR_PRIOR)
    priors.append(_LOG_NUGGET_PRIOR)
    centre, width = np.array(priors).T
    return centre, width


def _matern(a: Floats, b: Floats) -> Floats:
    """Returns the Matérn 5/2 correlation."""
    distance = _distance(a, b)
    decay = np.exp(-distance)
    distance *= 1 + distance / 3
    distance += 1
    distance *= decay
    return distance


def _matern_and_slope(a: Floats) -> tuple[Floats, Floats]:
    """Returns the correlation and its derivative by the squared distance."""
    distance = _distance(a, a)
    decay = np.exp(-distance)
    return (1 + distance + distance * distance / 3) * decay, (-5 / 6) * (1 + distance) * decay


def _distance(a: Floats, b: Floats) -> Floats:
    squared = (-10.0 * a) @ b.T
    squared += 5.0 * (a * a).sum(1)[:, None]
    squared += 5.0 * (b * b).sum(1)
    np.maximum(squared, 0.0, out=squared)
    distance: Floats = np.sqrt(squared, out=squared)
    return distance


class GaussianProcess:
    """A kernel conditioned on observations.

    Args:
        kernel: for targets of mean 0 and variance 1.
        columns: of the n observed networks.
        targets: ``(n,)`` in their own unit.
        noise_std: ``(n,)`` of the observations, in the same unit; 0 where a repeated evaluation gives the same value.
        center: of the prior, in the same unit.
        scale: standard deviation of the targets the kernel was fitted to, in the same unit.
    """

    def __init__(
        self, kernel: Kernel, columns: Columns, targets: Floats, *, noise_std: Floats, center: float, scale: float
    ) -> None:
        self._kernel, self._columns, self._scaled = kernel, columns, kernel.scaled(columns)
        self._center, self._scale = center, scale
        self._noise_std = noise_std
        self._noise = (noise_std / scale) ** 2
        self._targets = (targets - center) / scale
        covariance = kernel(self._scaled, self._scaled)
        covariance[np.diag_indices(len(columns))] += kernel.nugget + self._noise + _JITTER
        self._factor = cholesky(covariance, lower=True, check_finite=False)
        self._weights = cho_solve((self._factor, True), self._targets, check_finite=False)

    def posterior(self, columns: Columns) -> tuple[Floats, Floats]:
        """Returns mean and standard deviation of new networks' true values, nugget included, observation noise not."""
        scaled = self._kernel.scaled(columns)
        cross = self._kernel(scaled, self._scaled)
        solved = solve_triangular(self._factor, cross.T, lower=True, check_finite=False)
        variance = self._kernel.variance(scaled) + self._kernel.nugget - (solved * solved).sum(0)
        mean = cross @ self._weights * self._scale + self._center
        return mean, np.sqrt(np.maximum(variance, 1e-12)) * self._scale

    def true_values(self) -> Floats:
        """Returns ``(n,)``: the expected true values of the observed networks; the observations where noise is 0."""
        values: Floats = (self._targets - self._noise * self._weights) * self._scale + self._center
        return values

    def believing(self, columns: Columns) -> Self:
        """Returns the process after the pending networks came back exactly as expected.

        The kriging believer of Ginsbourger, Le Riche and Carraro ("Kriging is well-suited to parallelize optimization",
        2010): means stay, the uncertainty around pending networks shrinks.
        """
        if not len(columns):
            return self
        expected, _ = self.posterior(columns)
        return type(self)(
            self._kernel,
            self._columns.joined(columns),
            np.concatenate([self._targets * self._scale + self._center, expected]),
            noise_std=np.append(self._noise_std, np.full(len(columns), self._noise_std.mean())),
            center=self._center,
            scale=self._scale,
        )
