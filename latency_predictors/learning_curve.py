"""The learning curve of a predictor: how good it was expected to be after so many measured networks.

The expected error is the mean error of the networks learned from, each predicted by a model that has not seen it, with
the 95 % interval of that mean (Student's t).
"""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from latency_predictors.base import LEAST_ROWS, LatencyPredictor
from search_spaces.checksum import read_json, write_json
from search_spaces.errors import InputError

Floats = NDArray[np.float64]

CURVE = "learning.json"
"""Beside the predictor."""


@dataclass(frozen=True)
class LearningStep:
    """What is known after some measurements.

    Attributes:
        rows: networks measured.
        error: expected relative error, as a fraction.
        error_lower: lower end of its 95 % interval, at least 0.
        error_upper: upper end.
        bank_share: `TransferPredictor.bank_share`; None where there is no bank.
    """

    rows: int
    error: float
    error_lower: float
    error_upper: float
    bank_share: float | None = None

    @classmethod
    def of(cls, predicted: Floats, measured: Floats, bank_share: float | None = None) -> "LearningStep":
        """Returns the step after n networks ``(n,)``, each predicted by a model that has not seen it."""
        errors = np.abs(predicted / measured - 1)
        mean, rows = float(errors.mean()), len(errors)
        half_width = float(stats.t.ppf(0.975, rows - 1) * errors.std(ddof=1) / np.sqrt(rows))
        return cls(rows, mean, max(0.0, mean - half_width), mean + half_width, bank_share)


def learning_curve(
    predictor: LatencyPredictor, features: Floats, values: Floats, noise: Floats | None = None
) -> tuple[LearningStep, ...]:
    """Returns how good predictors like this one are on ever more of its rows, drawn at random, doubling to all of them.

    Args:
        predictor: whose kind, columns and seed are used; it is not changed.
        features: ``(n, d)``.
        values: ``(n,)``, the measured cost.
        noise: ``(n,)``, relative uncertainty of each value, or None.
    """
    order = np.random.default_rng(predictor.seed).permutation(len(values))
    steps: list[LearningStep] = []
    some = order
    while len(np.unique(features[some], axis=0)) >= LEAST_ROWS:
        other = type(predictor)(predictor.metric, predictor.device, seed=predictor.seed, columns=predictor.columns)
        other.fit_features(features[some], values[some], None if noise is None else noise[some])
        steps.append(LearningStep.of(other.predict_held_out(features[some]).mean, values[some]))
        some = order[: len(some) // 2]
    return tuple(reversed(steps))


def write_learning_curve(steps: Sequence[LearningStep], folder: Path) -> None:
    """Writes a learning curve into the folder of the predictor that it led to."""
    write_json(folder / CURVE, {"format": 1, "steps": [asdict(step) for step in steps]})


def read_learning_curve(folder: Path) -> tuple[LearningStep, ...]:
    """Returns the learning curve in a predictor's folder; empty where there is none.

    Raises:
        InputError: the file is damaged.
    """
    path = folder / CURVE
    if not path.exists():
        return ()
    try:
        return tuple(LearningStep(**step) for step in read_json(path)["steps"])
    except (OSError, ValueError, TypeError, KeyError) as error:
        raise InputError(f"{path} is damaged ({error}); restore it from a copy, or delete it") from None
