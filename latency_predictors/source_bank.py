"""SourceBank: what devices measured before say about a device that is new.

Every source device is fitted by ridge regression of log latency on network features, so that a device is a vector of
weights. The bank holds these vectors, and from them a Gaussian prior for the vector of a new device:

* its mean is the mean source device, families counting alike,
* it varies along the differences between the source devices, and along the mean device itself (a wider or narrower
  range of latencies),
* and, feature by feature, as much as a family of source devices differs from what all the other families explain.

The third part is learned by leaving one family out at a time, as the new device will be.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Self

import numpy as np
from numpy.typing import NDArray

from search_spaces.errors import InputError

Floats = NDArray[np.float64]

PENALTIES = (1.0, 10.0, 100.0, 1000.0)
"""Of the ridge regressions, on standardised features; the best on held-out rows is used."""
HELD_OUT = 5
"""One row in this many chooses the penalty."""
BASIS_PENALTY = 0.01
"""Of a family's regression on the others, relative to their mean variance."""
SMOOTHING = 0.03
"""Ridge penalty over the number of rows, of the weights that only show which features devices differ in: among features
that say nearly the same, large weights of opposite sign would hide that."""
LEAST_SOURCE_ROWS = 50
MOST_TYPICAL = 200


@dataclass(frozen=True)
class Prior:
    """A Gaussian belief about the log latency of a new device, ``inputs @ weights`` up to a constant.

    Attributes:
        mean: ``(q,)``, weights of the mean source device.
        directions: ``(q, D)``, differences between source devices; the prior varies by a standard normal along each.
        scales: ``(q,)``, standard deviation of each weight beyond that.
    """

    mean: Floats
    directions: Floats
    scales: Floats

    def coordinates(self, inputs: Floats, along: float, local: float, whole: float) -> Floats:
        """Returns rows whose inner products are the belief's covariances of log latencies.

        Args:
            inputs: ``(n, q)`` standardised columns.
            along: factor on the variance along the directions.
            local: on that of each weight beyond.
            whole: variance of the share of the mean source device.

        Returns:
            ``(n, D + q + 2)``; the last column is the device's constant, of which a factor of 2.7 either way is likely.
        """
        return np.hstack(
            [
                inputs @ self.directions * np.sqrt(along),
                inputs * (self.scales * np.sqrt(local)),
                (inputs @ self.mean)[:, None] * np.sqrt(whole),
                np.ones((len(inputs), 1)),
            ]
        )


@dataclass(frozen=True)
class SourceBank:
    """Fitted source devices.

    Attributes:
        devices: names, D of them.
        families: of each device; what shares silicon (batch sizes of a GPU, runtimes of a board) shares a family.
        centre: ``(2 p,)``, mean of the expanded features (`expand`).
        inverse_scale: ``(2 p,)``, one over their spread; 0 for columns that are left out.
        weights: ``(q, D)``, of each device on the q standardised columns.
        smooth_weights: ``(q, D)``, the same fit with a larger penalty.
        offsets: ``(D,)``, mean log latency of each device.
        covariance: ``(D, D)``, of the devices' fitted log latencies over the bank's networks.
        typical: ``(r, q)``, standardised columns of networks of the bank, at most `MOST_TYPICAL`.
    """

    devices: tuple[str, ...]
    families: tuple[str, ...]
    centre: Floats
    inverse_scale: Floats
    weights: Floats
    smooth_weights: Floats
    offsets: Floats
    covariance: Floats
    typical: Floats

    @classmethod
    def fit(
        cls, features: Floats, values: Floats, devices: Sequence[str], families: Sequence[str] | None = None
    ) -> Self:
        """Returns the bank of a table of measurements.

        Args:
            features: ``(n, p)``, of n networks.
            values: ``(n, D)``, cost of each network on each source device, above zero.
            devices: D names.
            families: D names; by default every device is a family of its own.

        Raises:
            InputError: fewer than 50 networks, or a value that is missing or not above zero.
        """
        families = tuple(devices if families is None else families)
        if not values.shape == (len(features), len(devices)) or len(families) != len(devices):
            raise ValueError(f"a value per network and device: {features.shape=} {values.shape=} {len(devices)=}")
        if len(features) < LEAST_SOURCE_ROWS:
            raise InputError(f"a source bank needs at least {LEAST_SOURCE_ROWS} networks, got {len(features)}")
        if not (np.isfinite(values) & (values > 0)).all():
            row, column = np.argwhere(~(np.isfinite(values) & (values > 0)))[0]
            raise InputError(
                f"source values must be finite and above zero, got {values[row, column]} for {devices[column]!r} in "
                f"row {row}; leave the row out"
            )
        centre, inverse_scale = _standard(features)
        kept = inverse_scale > 0
        inputs = (expand(features, kept) - centre[kept]) * inverse_scale[kept]
        logs = np.log(values)
        offsets = logs.mean(axis=0)
        weights = _ridge(inputs, logs - offsets)
        fitted = inputs @ weights
        covariance = np.atleast_2d(fitted.T @ fitted / len(fitted))
        gram = inputs.T @ inputs
        smooth = _solve(gram, gram @ weights, SMOOTHING * len(inputs))
        typical = inputs[:: math.ceil(len(inputs) / MOST_TYPICAL)]
        return cls(tuple(devices), families, centre, inverse_scale, weights, smooth, offsets, covariance, typical)

    def inputs(self, features: Floats) -> Floats:
        """Returns the standardised columns ``(n, q)`` of features ``(n, p)``."""
        kept = self.inverse_scale > 0
        standardised: Floats = (expand(features, kept) - self.centre[kept]) * self.inverse_scale[kept]
        return standardised

    def predict_logs(self, features: Floats) -> Floats:
        """Returns the log cost ``(n, D)`` of networks on every source device."""
        return self.inputs(features) @ self.weights + self.offsets

    def without(self, family: str) -> "SourceBank":
        """Returns the bank without the devices of a family.

        Raises:
            InputError: none would be left.
        """
        kept = [index for index, name in enumerate(self.families) if name != family]
        if not kept:
            raise InputError(f"no source device is left without the family {family!r}; add devices of other families")
        return SourceBank(
            tuple(self.devices[index] for index in kept),
            tuple(self.families[index] for index in kept),
            self.centre,
            self.inverse_scale,
            self.weights[:, kept],
            self.smooth_weights[:, kept],
            self.offsets[kept],
            self.covariance[np.ix_(kept, kept)],
            self.typical,
        )

    @cached_property
    def prior(self) -> Prior:
        """The belief about a new device; see the module."""
        names = sorted(set(self.families))
        families = np.array(self.families)
        share = np.array([1 / (len(names) * np.sum(families == family)) for family in self.families])
        mean = self.weights @ share
        unbiased = np.sqrt(len(names) / max(1, len(names) - 1))
        directions = (self.weights - mean[:, None]) * np.sqrt(share) * unbiased
        variances = np.zeros(len(mean))
        for family in names:
            own, others = families == family, families != family
            unexplained = self.smooth_weights[:, own]
            if others.any():
                basis = self.covariance[np.ix_(others, others)]
                penalty = BASIS_PENALTY * np.trace(basis) / len(basis) * np.eye(len(basis))
                shares = np.linalg.solve(basis + penalty, self.covariance[np.ix_(others, own)])
                unexplained = unexplained - self.smooth_weights[:, others] @ shares
            variances += np.square(unexplained).mean(axis=1) / len(names)
        return Prior(mean, directions, np.sqrt(variances))


def expand(features: Floats, kept: NDArray[np.bool_] | None = None) -> Floats:
    """Returns features and their signed logarithms, ``(n, 2 p)``: log latency is additive in neither alone.

    Args:
        features: ``(n, p)``.
        kept: ``(2 p,)``, the columns wanted; all where None.
    """
    plain, logs = (slice(None), slice(None)) if kept is None else np.split(kept, 2)
    return np.hstack([features[:, plain], signed_log(features[:, logs])])


def signed_log(values: Floats) -> Floats:
    """Returns ``sign(x) ln(1 + |x|)`` of every value."""
    return np.sign(values) * np.log1p(np.abs(values))


def _standard(features: Floats) -> tuple[Floats, Floats]:
    """Returns what takes expanded features to mean 0 and spread 1; columns that say nothing new get the factor 0."""
    expanded = expand(features)
    centre, spread = expanded.mean(axis=0), expanded.std(axis=0)
    varies = spread > 1e-9 * np.maximum(1, np.abs(centre))
    # The logarithm of a column of two values is that column again.
    low, high = features.min(axis=0), features.max(axis=0)
    varies[features.shape[1] :] &= ~((features == low) | (features == high)).all(axis=0)
    inverse_scale = np.zeros_like(spread)
    inverse_scale[varies] = 1 / spread[varies]
    return centre, inverse_scale


def _ridge(inputs: Floats, targets: Floats) -> Floats:
    """Returns ``(q, D)`` weights with the penalty that has the least mean absolute error on held-out rows."""
    held_out = np.arange(len(inputs)) % HELD_OUT == 0
    gram, products = inputs[~held_out].T @ inputs[~held_out], inputs[~held_out].T @ targets[~held_out]
    errors = [
        np.abs(inputs[held_out] @ _solve(gram, products, penalty) - targets[held_out]).mean() for penalty in PENALTIES
    ]
    gram += inputs[held_out].T @ inputs[held_out]
    products += inputs[held_out].T @ targets[held_out]
    return _solve(gram, products, PENALTIES[int(np.argmin(errors))])


def _solve(gram: Floats, products: Floats, penalty: float) -> Floats:
    solution = np.linalg.solve(gram + penalty * np.eye(len(gram)), products)
    return np.asarray(solution, dtype=np.float64)
