"""SourceBank: what devices measured before say about a device that is new.

What a source device takes for a network is added up over its layers (`latency_predictors.linear`), and what such costs
leave unexplained, relative to them, is fitted by ridge regression on the network's features: no number of columns makes
a sum of a sum of logarithms. Rows far off count as if they were `HUBER` standard deviations off (modified residuals;
Huber, "Robust Statistics", 1981, section 7.8), as a few networks that a runtime folds away, or disturbed measurements,
would bend the rest. So a device is a vector of weights, on the logarithm of its own costs and on features. The bank
holds these vectors, and from them a Gaussian prior for the vector of a new device:

* its mean is the mean source device, families counting alike,
* it varies along the differences between the source devices, and along the mean device itself (a wider or narrower
  range of latencies),
* and, feature by feature, as much as a family of source devices differs from what all the other families explain.

The third part is learned by leaving one family out at a time, as the new device will be.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Self

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import cho_factor, cho_solve

from latency_predictors.base import Model
from latency_predictors.linear import fit_costs, log_costs
from search_spaces.errors import InputError

Floats = NDArray[np.float64]
Mask = NDArray[np.bool_]

PENALTIES = (1.0, 10.0, 100.0, 1000.0)
"""Of the ridge regressions, on standardised features; the best on held-out rows is used."""
HELD_OUT = 5
"""One row in this many chooses penalties, and tells how far rows usually are off."""
HUBER = 2.0
"""Robust standard deviations up to which a row counts in full."""
ROUNDS = 10
"""Of refitting to modified residuals; more change nothing that can be seen."""
_LEAST_REACH = 1e-3  # relative; below it residuals are rounding, not errors
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
        mean: ``(q + D,)``, weights of the mean source device on columns and costs (`SourceBank.inputs`).
        directions: ``(q + D, D)``, differences between source devices; a new one varies by one standard normal on each.
        scales: ``(q + D,)``, standard deviation of each weight beyond that; 0 for the costs.
    """

    mean: Floats
    directions: Floats
    scales: Floats

    def coordinates(self, inputs: Floats, along: float, local: float, whole: float) -> Floats:
        """Returns rows whose inner products are the belief's covariances of log latencies.

        Args:
            inputs: ``(n, q + D)``, of `SourceBank.inputs`.
            along: factor on the variance along the directions.
            local: on that of each weight beyond.
            whole: variance of the share of the mean source device.

        Returns:
            ``(n, q + 2 D + 2)``; the last column is the device's constant: a factor of 2.7 either way is likely.
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
        columns: ``(p,)``, names of the features.
        centre: ``(2 p,)``, mean of the expanded features (`expand`).
        inverse_scale: ``(2 p,)``, one over their spread; 0 for columns that are left out.
        costs: of each device, as `latency_predictors.linear.log_costs` takes them.
        cost_centre: ``(D,)``, mean logarithm of these costs over the bank's networks.
        weights: ``(q, D)``, of each device on the q standardised columns, beside its own costs.
        smooth_weights: ``(q, D)``, a fit with a larger penalty of costs and columns together to the columns alone.
        offsets: ``(D,)``, mean log latency of each device.
        covariance: ``(D, D)``, of the devices' fitted log latencies over the bank's networks.
        typical_features: ``(r, p)``, of networks of the bank, at most `MOST_TYPICAL`.
    """

    devices: tuple[str, ...]
    families: tuple[str, ...]
    columns: tuple[str, ...]
    centre: Floats
    inverse_scale: Floats
    costs: tuple[Model, ...]
    cost_centre: Floats
    weights: Floats
    smooth_weights: Floats
    offsets: Floats
    covariance: Floats
    typical_features: Floats

    @classmethod
    def fit(
        cls,
        features: Floats,
        values: Floats,
        devices: Sequence[str],
        families: Sequence[str] | None = None,
        *,
        columns: Sequence[str],
    ) -> Self:
        """Returns the bank of a table of measurements.

        Args:
            features: ``(n, p)``, of n networks.
            values: ``(n, D)``, cost of each network on each source device, above zero.
            devices: D names.
            families: D names; by default every device is a family of its own.
            columns: p names of the features, as a predictor has them.

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
        logs, added = np.log(values), features[:, added_up(columns)]
        costs = _costs(added, inputs, logs)
        by_costs = log_costs(costs, added).T
        cost_centre = by_costs.mean(axis=0)
        weights, offsets = _robust_ridge(inputs, logs - by_costs)
        fitted = by_costs - cost_centre + inputs @ weights
        covariance = np.atleast_2d(fitted.T @ fitted / len(fitted))
        smooth = _solve(inputs.T @ inputs, inputs.T @ fitted, SMOOTHING * len(inputs))
        typical = features[:: math.ceil(len(features) / MOST_TYPICAL)]
        return cls(
            tuple(devices), families, tuple(columns), centre, inverse_scale, tuple(costs), cost_centre, weights, smooth,
            offsets + cost_centre, covariance, typical,
        )  # fmt: skip

    def inputs(self, features: Floats) -> Floats:
        """Returns what the bank knows of features ``(n, p)``: ``(n, q + D)``, standardised columns and log costs."""
        kept = self.inverse_scale > 0
        by_costs = log_costs(self.costs, features[:, added_up(self.columns)]).T
        standardised = (expand(features, kept) - self.centre[kept]) * self.inverse_scale[kept]
        return np.hstack([standardised, by_costs - self.cost_centre])

    def predict_logs(self, features: Floats) -> Floats:
        """Returns the log cost ``(n, D)`` of networks on every source device."""
        inputs, count = self.inputs(features), len(self.weights)
        predicted: Floats = inputs[:, :count] @ self.weights + inputs[:, count:] + self.offsets
        return predicted

    def without(self, family: str) -> "SourceBank":
        """Returns the bank without the devices of a family.

        Raises:
            InputError: none would be left.
        """
        kept = [index for index, name in enumerate(self.families) if name != family]
        if not kept:
            raise InputError(f"no source device is left without the family {family!r}; add devices of other families")
        return replace(
            self,
            devices=tuple(self.devices[index] for index in kept),
            families=tuple(self.families[index] for index in kept),
            costs=tuple(self.costs[index] for index in kept),
            cost_centre=self.cost_centre[kept],
            weights=self.weights[:, kept],
            smooth_weights=self.smooth_weights[:, kept],
            offsets=self.offsets[kept],
            covariance=self.covariance[np.ix_(kept, kept)],
        )

    @cached_property
    def typical(self) -> Floats:
        """``(r, q + D)``, `inputs` of typical networks of the bank."""
        return self.inputs(self.typical_features)

    @cached_property
    def prior(self) -> Prior:
        """The belief about a new device; see the module."""
        names = sorted(set(self.families))
        families = np.array(self.families)
        share = np.array([1 / (len(names) * np.sum(families == family)) for family in self.families])
        weights = np.vstack([self.weights, np.eye(len(self.devices))])
        mean = weights @ share
        unbiased = np.sqrt(len(names) / max(1, len(names) - 1))
        directions = (weights - mean[:, None]) * np.sqrt(share) * unbiased
        variances = np.zeros(len(mean))
        for family in names:
            own, others = families == family, families != family
            unexplained = self.smooth_weights[:, own]
            if others.any():
                basis = self.covariance[np.ix_(others, others)]
                penalty = BASIS_PENALTY * np.trace(basis) / len(basis) * np.eye(len(basis))
                shares = np.linalg.solve(basis + penalty, self.covariance[np.ix_(others, own)])
                unexplained = unexplained - self.smooth_weights[:, others] @ shares
            variances[: len(unexplained)] += np.square(unexplained).mean(axis=1) / len(names)
        return Prior(mean, directions, np.sqrt(variances))


def added_up(columns: Sequence[str]) -> Mask:
    """Returns which columns ``(p,)`` a source device's costs are summed over.

    The physical ones; where there are none, single choices.
    """
    physical = np.array(["=" not in name for name in columns])
    return physical if physical.any() else np.array(["&" not in name for name in columns])


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


def _costs(features: Floats, inputs: Floats, logs: Floats) -> list[Model]:
    """Returns the costs of D devices, none (a logarithm of 0 for all networks) where columns alone predict better.

    Rows held out decide that, and how much costs are corrected.

    Args:
        features: ``(n, d)``, those that costs are summed over.
        inputs: ``(n, q)``, standardised columns.
        logs: ``(n, D)``.
    """
    seen = np.column_stack([np.ones(len(logs)), ~_held_out(len(logs))])
    whole, partial = zip(*(fit_costs(features, own, seen) for own in logs.T), strict=True)
    targets = np.hstack([logs, logs - log_costs(partial, features).T])
    errors = _held_out_errors(inputs, targets - np.median(targets, axis=0)).mean(axis=1).min(axis=0)
    alone, beside = np.split(errors, 2)
    none = {name: np.zeros_like(array) for name, array in whole[0].items()} | {"floor": np.ones(1)}
    return [own if better else none for own, better in zip(whole, beside < alone, strict=True)]


def _held_out(rows: int) -> Mask:
    found: Mask = np.arange(rows) % HELD_OUT == 0
    return found


def _held_out_errors(inputs: Floats, targets: Floats) -> Floats:
    """Returns the absolute errors of rows held out, ``(penalties, rows, D)``, by ridge regression on the others."""
    out = _held_out(len(inputs))
    gram, products = inputs[~out].T @ inputs[~out], inputs[~out].T @ targets[~out]
    return np.stack([np.abs(inputs[out] @ _solve(gram, products, each) - targets[out]) for each in PENALTIES])


def _robust_ridge(inputs: Floats, targets: Floats) -> tuple[Floats, Floats]:
    """Returns ``(q, D)`` weights and ``(D,)`` constants, with the penalty that has the least error on held-out rows.

    Args:
        inputs: ``(n, q)``, of mean 0.
        targets: ``(n, D)``.
    """
    middle = np.median(targets, axis=0)
    targets = targets - middle
    errors = _held_out_errors(inputs, targets)
    best = int(errors.mean(axis=(1, 2)).argmin())
    reach = np.maximum(HUBER * 1.4826 * np.median(errors[best], axis=0), _LEAST_REACH)
    factor = cho_factor(inputs.T @ inputs + PENALTIES[best] * np.eye(inputs.shape[1]))
    modified = targets
    for _ in range(ROUNDS):
        constants, weights = modified.mean(axis=0), cho_solve(factor, inputs.T @ modified)
        fitted = inputs @ weights + constants
        modified = fitted + np.clip(targets - fitted, -reach, reach)
    return weights, constants + middle


def _solve(gram: Floats, products: Floats, penalty: float) -> Floats:
    solution = np.linalg.solve(gram + penalty * np.eye(len(gram)), products)
    return np.asarray(solution, dtype=np.float64)
