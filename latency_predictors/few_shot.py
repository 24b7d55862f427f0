"""A new device from few measurements, step by step: choose networks, measure, learn, say how good it is, stop.

After every batch the expected error is the mean error of the networks learned from, each predicted by a model that has
not seen it, with the 95 % interval of that mean (Student's t). The chosen networks lie far apart, so others tend to be
predicted better than this says.
"""

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from latency_predictors.base import FOLDS, LEAST_ROWS
from latency_predictors.evaluation import CrossValidation, FittedPredictor
from latency_predictors.features import FEATURE_NAMES
from latency_predictors.metrics import scores
from latency_predictors.selection import choose_networks
from latency_predictors.source_bank import SourceBank
from latency_predictors.transfer import TransferPredictor
from search_spaces.checksum import read_json, write_json
from search_spaces.errors import InputError

Floats = NDArray[np.float64]
Measure = Callable[[int], float]
"""Returns the latency in milliseconds of a candidate."""

CURVE = "learning.json"
BATCH = 2
"""Networks measured between two looks at the error."""
RESEMBLES = 0.5
"""Least share of the device's variation that the bank must explain, else the device resembles none of it."""


@dataclass(frozen=True)
class LearningStep:
    """What is known after some measurements.

    Attributes:
        rows: networks measured.
        error: expected relative error, as a fraction.
        error_lower: lower end of its 95 % interval, at least 0.
        error_upper: upper end.
        bank_share: `TransferPredictor.bank_share`.
    """

    rows: int
    error: float
    error_lower: float
    error_upper: float
    bank_share: float


@dataclass(frozen=True)
class FewShot:
    """A predictor from few measurements.

    Attributes:
        fitted: the predictor.
        measured: the candidates that were measured, in order.
        steps: the learning curve.
        reached: whether the wanted error was reached; None where none was wanted.
    """

    fitted: FittedPredictor
    measured: tuple[int, ...]
    steps: tuple[LearningStep, ...]
    reached: bool | None

    @property
    def resembles_bank(self) -> bool:
        """Whether the source devices explain most of what was measured."""
        return self.steps[-1].bank_share >= RESEMBLES


def learn_few_shot(
    bank: SourceBank,
    candidates: Floats,
    measure: Measure,
    samples: int,
    *,
    device: str,
    choose: bool = True,
    until_error: float | None = None,
    seed: int = 0,
    names: tuple[str, ...] = FEATURE_NAMES,
) -> FewShot:
    """Returns a predictor of a new device.

    Args:
        bank: source devices.
        candidates: ``(m, p)`` features of networks that can be measured.
        measure: called once for each network that is measured, in order.
        samples: most networks to measure, at least 10.
        device: id of the new device's profile.
        choose: the most telling networks; at random otherwise.
        until_error: stops as soon as the upper end of the expected error is at most this fraction.
        seed: of choice and folds.
        names: of the features.

    Raises:
        InputError: fewer samples than 10, fewer candidates than samples, or a wanted error not above zero.
    """
    if samples < LEAST_ROWS:
        raise InputError(f"samples must be at least {LEAST_ROWS}, which an interval needs, got {samples}")
    if samples > len(candidates):
        raise InputError(f"samples must be at most {len(candidates)}, the networks that can be measured, got {samples}")
    if until_error is not None and not until_error > 0:
        raise InputError(f"a wanted error must be above zero, as a fraction such as 0.05, got {until_error}")
    rng = np.random.default_rng(seed)
    drawn = [int(row) for row in rng.permutation(len(candidates))]
    measured: list[int] = []
    values: list[float] = []
    steps: list[LearningStep] = []
    reached = None if until_error is None else False
    while len(measured) < samples and not reached:
        count = min(samples - len(measured), BATCH if measured else LEAST_ROWS)
        if choose:
            left = np.setdiff1d(np.arange(len(candidates)), measured)
            known = candidates[measured] if measured else None
            batch = [int(left[row]) for row in choose_networks(bank, candidates[left], count, rng, known)]
        else:
            batch = drawn[len(measured) : len(measured) + count]
        values += [measure(row) for row in batch]
        measured += batch
        predictor = TransferPredictor("latency_ms", device, seed=seed, columns=names, bank=bank)
        predictor.fit_features(candidates[measured], np.array(values))
        held_out = predictor.predict_held_out(candidates[measured])
        steps.append(_step(held_out.mean, np.array(values), predictor.bank_share))
        if until_error is not None:
            reached = steps[-1].error_upper <= until_error
    validation = CrossValidation(predictor.kind, FOLDS, 1, scores(held_out, np.array(values)))
    digest = hashlib.sha256(np.column_stack([candidates[measured], values]).tobytes()).hexdigest()[:12]
    return FewShot(FittedPredictor(predictor, (validation,), digest), tuple(measured), tuple(steps), reached)


def write_learning_curve(steps: Sequence[LearningStep], folder: Path) -> None:
    """Writes a learning curve into the folder of the predictor that it led to."""
    write_json(folder / CURVE, {"format": 1, "steps": [asdict(step) for step in steps]})


def read_learning_curve(folder: Path) -> tuple[LearningStep, ...]:
    """Returns the learning curve in a predictor's folder; empty where it was not learned step by step.

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


def _step(predicted: Floats, measured: Floats, bank_share: float) -> LearningStep:
    errors = np.abs(predicted / measured - 1)
    mean, rows = float(errors.mean()), len(errors)
    half_width = float(stats.t.ppf(0.975, rows - 1) * errors.std(ddof=1) / np.sqrt(rows))
    return LearningStep(rows, mean, max(0.0, mean - half_width), mean + half_width, bank_share)
