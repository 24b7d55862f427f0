"""Cross-validation of predictors, and the choice between their kinds.

Whatever is scored was never learned from: the predictor, its settings and its intervals come from the other folds
alone (the intervals from folds within those), and equal networks share a fold.
"""

import hashlib
import math
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass

import numpy as np
from numpy.typing import NDArray

from latency_predictors.base import LEAST_ROWS, LatencyPredictor, Prediction
from latency_predictors.conformal import fold_numbers
from latency_predictors.features import FEATURE_NAMES, network_features
from latency_predictors.kinds import list_kinds, predictor_kind
from latency_predictors.learning_curve import LearningStep, learning_curve
from latency_predictors.metrics import Scores, scores
from search_spaces.errors import InputError
from search_spaces.layer import LayerSpec

Floats = NDArray[np.float64]

LEAST_GAIN = 0.01
"""Share of the cross-validated error by which a kind must be better than a simpler one."""
EXACT = 1e-6
"""Relative error that no clock resolves; kinds this close are equal."""


@dataclass(frozen=True)
class CrossValidation:
    """How good one kind of predictor is on networks it has not seen.

    Attributes:
        kind: of predictor.
        folds: each was predicted from the others.
        repeats: shufflings into folds.
        scores: means over the repeats.
    """

    kind: str
    folds: int
    repeats: int
    scores: Scores

    def to_dict(self) -> dict[str, str | int | float]:
        """Returns one flat row, for tables and JSON; ``mape``, ``within_10`` and ``coverage`` are fractions."""
        return {"kind": self.kind, "folds": self.folds, "repeats": self.repeats, **asdict(self.scores)}


@dataclass(frozen=True)
class FittedPredictor:
    """A predictor with the reason why it is of its kind.

    Attributes:
        predictor: fitted on all rows.
        validations: of every kind that was tried, the chosen one first.
        training_set: twelve hexadecimal digits of the SHA-256 of the rows learned from, whatever their order.
        learning: its learning curve.
    """

    predictor: LatencyPredictor
    validations: tuple[CrossValidation, ...]
    training_set: str
    learning: tuple[LearningStep, ...] = ()


def cross_validate(
    kind: str,
    features: Floats,
    values: Floats,
    noise: Floats | None = None,
    *,
    columns: Sequence[str] = FEATURE_NAMES,
    folds: int = 5,
    repeats: int = 3,
) -> CrossValidation:
    """Returns the scores of a kind of predictor on rows it has not seen.

    Args:
        kind: a name of `latency_predictors.kinds.list_kinds`.
        features: ``(n, d)``, of `latency_predictors.architecture_features` or `network_features`.
        values: ``(n,)``, the measured cost, above zero.
        noise: ``(n,)``, relative uncertainty of each value; weighs the rows learned from, not those scored.
        columns: names of the features.
        folds: at least 2.
        repeats: with other folds; the seeds are 0, 1, ...

    Raises:
        InputError: what is left of the rows without a fold is too little to fit.
    """
    found = []
    for seed in range(repeats):
        fold = fold_numbers(features, folds, np.random.default_rng([seed, folds]))
        ends = np.empty((3, len(values)))
        for number in range(fold.max() + 1):
            out = fold == number
            predictor = predictor_kind(kind)("value", "", seed=seed, columns=columns)
            predictor.fit_features(features[~out], values[~out], None if noise is None else noise[~out])
            prediction = predictor.predict_features(features[out])
            ends[:, out] = prediction.mean, prediction.lower, prediction.upper
        found.append(scores(Prediction(*ends), values))
    return CrossValidation(kind, folds, repeats, Scores.mean(found))


def fit_predictor(
    networks: Iterable[Sequence[LayerSpec]],
    values: Floats,
    noise: Floats | None = None,
    *,
    metric: str,
    device: str,
    kinds: Sequence[str] | None = None,
    folds: int = 5,
    repeats: int = 3,
    seed: int = 0,
) -> FittedPredictor:
    """As `fit_best_predictor`, for networks of which only the layers are known."""
    return fit_best_predictor(
        network_features(networks), values, noise, metric=metric, device=device, columns=FEATURE_NAMES, kinds=kinds,
        folds=folds, repeats=repeats, seed=seed,
    )  # fmt: skip


def fit_best_predictor(
    features: Floats,
    values: Floats,
    noise: Floats | None = None,
    *,
    metric: str,
    device: str,
    columns: Sequence[str],
    kinds: Sequence[str] | None = None,
    folds: int = 5,
    repeats: int = 3,
    seed: int = 0,
) -> FittedPredictor:
    """Returns a predictor of the kind with the lowest cross-validated error, fitted on all rows.

    Args:
        features: ``(n, d)``, of n networks.
        values: ``(n,)``, the measured cost, above zero.
        noise: ``(n,)``, relative uncertainty of each value, or None.
        metric: what is predicted, such as ``latency_ms``.
        device: id of the device profile.
        columns: names of the features.
        kinds: to choose from, the simplest first; all where None. A later one must lower the error by `LEAST_GAIN`.
        folds: of the cross-validation.
        repeats: of the cross-validation.
        seed: of the predictor.

    Raises:
        InputError: too few networks, an unknown kind, or a value that cannot be one.
    """
    values = np.asarray(values, dtype=np.float64)
    least, different = math.ceil(LEAST_ROWS * folds / (folds - 1)), len(np.unique(features, axis=0))
    if different < least:
        raise InputError(
            f"to fit and validate needs at least {least} different networks, got {different}: measure more"
        )
    tried = [
        cross_validate(kind, features, values, noise, columns=columns, folds=folds, repeats=repeats)
        for kind in kinds or list_kinds()
    ]
    best = tried[0]
    for other in tried[1:]:
        if other.scores.log_error < (1 - LEAST_GAIN) * best.scores.log_error - EXACT:
            best = other
    predictor = predictor_kind(best.kind)(metric, device, seed=seed, columns=columns)
    predictor.fit_features(features, values, noise)
    validations = (best, *(other for other in tried if other is not best))
    learning = learning_curve(predictor, features, values, noise)
    return FittedPredictor(predictor, validations, _digest(features, values, noise), learning)


def _digest(features: Floats, values: Floats, noise: Floats | None) -> str:
    rows = np.column_stack([features, values, np.zeros(len(values)) if noise is None else noise])
    return hashlib.sha256(b"".join(sorted(row.tobytes() for row in rows))).hexdigest()[:12]
