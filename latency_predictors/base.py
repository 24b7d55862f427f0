"""LatencyPredictor: the contract of everything that predicts a positive cost of networks on one device."""

import math
from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar, Self

import numpy as np
from numpy.typing import NDArray

from latency_predictors.architecture_features import Spaces, feature_tables
from latency_predictors.conformal import cv_plus, fold_numbers, least_rows, share_within
from latency_predictors.features import FEATURE_NAMES, network_features, physical_places
from search_spaces.architecture import Architecture
from search_spaces.errors import InputError
from search_spaces.layer import LayerSpec

Floats = NDArray[np.float64]
Integers = NDArray[np.int64]
Model = dict[str, Floats]
"""Everything one fitted model knows, as arrays by name."""

LEVEL = 0.9
"""Coverage that intervals are made for."""
FOLDS = 10
"""Models behind an interval, each fitted without one fold of the rows."""
_CHUNK = 1 << 12  # architectures looked at together, so that their features stay in the cache
LEAST_ROWS = least_rows(LEVEL) + 1
NOISE_FLOOR = 0.02
"""Relative error below which a measurement gains no weight: what the protocol accepts as exact."""


@dataclass(frozen=True)
class Prediction:
    """Predicted values of n networks, in the predictor's unit.

    Attributes:
        mean: ``(n,)``, the centre.
        lower: ``(n,)``, lower end of the 90 % interval.
        upper: ``(n,)``, upper end of the 90 % interval.
    """

    mean: Floats
    lower: Floats
    upper: Floats

    def __post_init__(self) -> None:
        if not self.mean.shape == self.lower.shape == self.upper.shape == (len(self.mean),):
            raise ValueError(f"three (n,) arrays, got {self.mean.shape}, {self.lower.shape}, {self.upper.shape}")
        if not (np.isfinite(self.mean) & np.isfinite(self.upper) & (self.lower > 0)).all():
            raise ValueError("predictions must be finite and above zero")
        if not ((self.lower <= self.mean) & (self.mean <= self.upper)).all():
            raise ValueError("a predicted value must lie in its interval")

    def __len__(self) -> int:
        return len(self.mean)


class LatencyPredictor(ABC):
    """Learns a positive cost (latency, energy, memory) of networks on one device profile from measured networks.

    A subclass says how models of the logarithm are fitted and asked (`_fit`, `_predict`), all of an interval at once,
    so that they can share work; this class checks what comes in, turns networks into features, adds the 90 % interval
    (CV+, `latency_predictors.conformal`), and gives and takes everything learned as arrays.

    Whoever makes a predictor calls `fit` once, before anything else. `predict` changes nothing: it may be called by
    many threads at once, and the fitted object may be sent to worker processes (it holds arrays only). Everything is
    deterministic: the same rows in the same order and the same seed give the same predictions.

    Attributes:
        kind: name of the subclass's method, as saved on disk.
        metric: what is predicted, with its unit in the name, such as ``latency_ms``.
        device: id of the device profile (`latency_predictors.measurement.DeviceProfile.id`).
        seed: of the folds.
        columns: names of the features learned from: the physical ones of `latency_predictors.features`, choices such as
            ``stage1.kernel=3`` (`latency_predictors.choice_features`), or both.
    """

    kind: ClassVar[str]

    def __init__(self, metric: str, device: str, *, seed: int = 0, columns: Sequence[str] = FEATURE_NAMES) -> None:
        self.metric = metric
        self.device = device
        self.seed = seed
        self.columns = tuple(columns)
        self._models: list[Model] = []  # the first learned from all rows, each other left out a fold
        self._fold = np.empty(0, dtype=np.int64)
        self._residuals = np.empty(0)  # as a typical network would have them
        self._ease = np.empty(0)  # `_ease_of` the rows

    def fit(self, networks: Iterable[Sequence[LayerSpec]], values: Floats, noise: Floats | None = None) -> Self:
        """Learns from measured networks; returns the predictor.

        Args:
            networks: n networks, at least 10 of them different.
            values: ``(n,)``, the measured cost, above zero.
            noise: ``(n,)``, relative uncertainty of each value, such as the half-width of its interval; noisier rows
                get lower weight. None for equal weights.

        Raises:
            InputError: too few networks, or a value or noise that cannot be one.
        """
        return self.fit_features(self._features(networks), values, noise)

    def predict(self, networks: Iterable[Sequence[LayerSpec]]) -> Prediction:
        """Returns the cost of m networks with a 90 % interval for what would be measured."""
        return self.predict_features(self._features(networks))

    def fit_features(self, features: Floats, values: Floats, noise: Floats | None = None) -> Self:
        """As `fit`, for the features ``(n, d)`` of the networks (`network_features`)."""
        values = np.asarray(values, dtype=np.float64)
        noise = np.zeros(len(values)) if noise is None else np.asarray(noise, dtype=np.float64)
        _check_rows(features, values, noise)
        logs = np.log(values)
        weights = 1 / (1 + np.square(noise / NOISE_FLOOR))
        fold = fold_numbers(features, FOLDS, np.random.default_rng(self.seed))
        kept = np.column_stack([np.ones(len(logs)), fold[:, None] != np.arange(fold.max() + 1)])
        models = self._fit(features, logs, weights[:, None] * kept)
        errors = np.abs(self._predict(models[1:], features)[fold, np.arange(len(logs))] - logs)
        ease = self._ease_of(models, features, fold)
        self._models, self._fold, self._residuals, self._ease = models, fold, errors * ease, ease
        return self

    def predict_features(self, features: Floats) -> Prediction:
        """As `predict`, for the features ``(m, d)`` of the networks."""
        if not self._models:
            raise RuntimeError("fit the predictor before it predicts")
        mean, *without_fold = self._predict(self._models, features)
        lower, upper = cv_plus(np.stack(without_fold), self._fold, self._residuals, LEVEL)
        # The centre comes from all rows, the ends from the models that left some out: they may disagree far away.
        return Prediction(np.exp(mean), np.exp(np.minimum(lower, mean)), np.exp(np.maximum(upper, mean)))

    def probability_within(self, features: Floats, budget: Floats | float) -> Floats:
        """Returns the probability ``(m,)`` that what would be measured of networks is at most a budget.

        It belongs to the interval: a budget at its upper end is kept with about .95, at its lower end with about .05.

        Args:
            features: ``(m, d)``.
            budget: in the predictor's unit; one for all networks, or ``(m,)``.
        """
        if not self._models:
            raise RuntimeError("fit the predictor before it predicts")
        logs = np.log(np.maximum(budget, np.finfo(np.float64).tiny))
        return share_within(self._predict(self._models[1:], features), self._fold, self._residuals, logs)

    def predict_held_out(self, features: Floats) -> Prediction:
        """Returns, for each row learned from, what the model that left it out says, with an interval from the others.

        Args:
            features: ``(n, d)``, of the rows as they were fitted.
        """
        logs = self._predict(self._models[1:], features)[self._fold, np.arange(len(features))]
        rows = len(features) - 1
        rank = min(rows, math.ceil(LEVEL * (rows + 1) - 1e-9))
        radius = np.array([np.sort(np.delete(self._residuals, row))[rank - 1] for row in range(len(features))])
        radius /= self._ease
        return Prediction(np.exp(logs), np.exp(logs - radius), np.exp(logs + radius))

    def predict_architectures(self, architectures: Sequence[Architecture], spaces: Spaces) -> Prediction:
        """As `predict`, for m architectures; what their networks share is worked out once.

        Args:
            architectures: to predict.
            spaces: of the architectures by name, for a predictor with physical columns.

        Raises:
            InputError: the space of one is not known, or does not have it.
        """
        ends = np.empty((3, len(architectures)))
        for rows, table in feature_tables(architectures, self.columns, spaces):
            for start in range(0, len(rows), _CHUNK):
                found = self.predict_features(table.rows(slice(start, start + _CHUNK)))
                ends[:, rows[start : start + _CHUNK]] = found.mean, found.lower, found.upper
        return Prediction(*ends)

    def arrays(self) -> dict[str, NDArray[np.generic]]:
        """Returns everything learned; `restore` turns it into a predictor that predicts the same to the last bit."""
        # What models share is there once, with the first.
        models = {
            f"{i}.{name}": array
            for i, model in enumerate(self._models)
            for name, array in model.items()
            if i == 0 or array is not self._models[0].get(name)
        }
        return {"fold": self._fold, "residuals": self._residuals, "ease": self._ease, **models}

    @classmethod
    def restore(
        cls,
        metric: str,
        device: str,
        seed: int,
        arrays: Mapping[str, NDArray[np.generic]],
        columns: Sequence[str] = FEATURE_NAMES,
    ) -> Self:
        """Returns the fitted predictor whose `arrays` these are.

        Raises:
            KeyError: an array is missing.
        """
        predictor = cls(metric, device, seed=seed, columns=columns)
        predictor._fold = arrays["fold"].astype(np.int64)
        predictor._residuals = arrays["residuals"].astype(np.float64)
        # Earlier versions took all rows for typical.
        predictor._ease = arrays.get("ease", np.ones(len(predictor._fold))).astype(np.float64)
        predictor._models = [{} for _ in range(int(predictor._fold.max()) + 2)]
        for name in sorted(arrays.keys() - {"fold", "residuals", "ease"}):
            index, _, field = name.partition(".")
            predictor._models[int(index)][field] = arrays[name].astype(np.float64)
        predictor._models = [predictor._models[0] | model for model in predictor._models]
        return predictor

    def _features(self, networks: Iterable[Sequence[LayerSpec]]) -> Floats:
        if self._choices.any():
            raise RuntimeError("layers do not tell choices: use `architecture_features` with `fit_features` and so on")
        return network_features(networks)[:, physical_places(self.columns)]

    @property
    def _choices(self) -> NDArray[np.bool_]:
        """``(d,)``, which columns are choices; the others are physical."""
        return np.array(["=" in name for name in self.columns], dtype=np.bool_)

    @property
    def _summable(self) -> NDArray[np.bool_]:
        """``(d,)``, the columns that costs are summed over: the physical ones, where there are any."""
        return ~self._choices if not self._choices.all() else self._choices

    @abstractmethod
    def _fit(self, features: Floats, logs: Floats, weights: Floats) -> list[Model]:
        """Returns k models of the same rows.

        Args:
            features: ``(n, d)``.
            logs: ``(n,)``, natural logarithms of the values.
            weights: ``(n, k)``, for each model 1 for an exact row, towards 0 for a noisy one, and 0 for a row that it
                must not see. The first model sees all rows, and settings that are costly to choose are chosen on it.
        """

    def _ease_of(self, models: Sequence[Model], features: Floats, fold: Integers) -> Floats:
        """Returns how much larger than a row's error that of a typical network is expected to be.

        Rows that were chosen because they lie far apart are harder to predict from each other than a network is from
        them, and their residuals as they are would make intervals too wide. Here rows are taken for typical.

        Args:
            models: what `_fit` returned.
            features: ``(n, d)``, of the rows learned from.
            fold: ``(n,)``, of each row.

        Returns:
            ``(n,)``, above zero: the ratio for each row, when its fold is left out.
        """
        return np.ones(len(features))

    @abstractmethod
    def _predict(self, models: Sequence[Model], features: Floats) -> Floats:
        """Returns the logarithms ``(k, m)`` that k of the models predict for features ``(m, d)``."""


def _check_rows(features: Floats, values: Floats, noise: Floats) -> None:
    if not len(features) == len(values) == len(noise) or values.ndim != 1 or noise.ndim != 1:
        raise ValueError(f"one value and one noise for each network: {features.shape=} {values.shape=} {noise.shape=}")
    if not (np.isfinite(values) & (values > 0)).all():
        bad = int(np.flatnonzero(~(np.isfinite(values) & (values > 0)))[0])
        raise InputError(f"measured values must be finite and above zero, got {values[bad]} in row {bad}; leave it out")
    if not (np.isfinite(noise) & (noise >= 0)).all():
        bad = int(np.flatnonzero(~(np.isfinite(noise) & (noise >= 0)))[0])
        raise InputError(f"the noise of a value must be finite and at least 0, got {noise[bad]} in row {bad}")
    different = len(np.unique(features, axis=0))
    if different < LEAST_ROWS:
        raise InputError(f"a predictor needs at least {LEAST_ROWS} different networks, got {different}: measure more")
