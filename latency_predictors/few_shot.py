"""A new device from few measurements, step by step: choose networks, measure, learn, say how good it is, stop.

After every batch the expected error is told (`latency_predictors.learning_curve`). The chosen networks lie far apart,
so others tend to be predicted better than it says.
"""

import hashlib
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from latency_predictors.base import FOLDS, LEAST_ROWS
from latency_predictors.evaluation import CrossValidation, FittedPredictor
from latency_predictors.features import FEATURE_NAMES
from latency_predictors.learning_curve import LearningStep
from latency_predictors.metrics import scores
from latency_predictors.selection import choose_networks
from latency_predictors.source_bank import SourceBank
from latency_predictors.transfer import TransferPredictor
from search_spaces.errors import InputError

Floats = NDArray[np.float64]
Measure = Callable[[int], float]
"""Returns the latency in milliseconds of a candidate."""

BATCH = 2
"""Networks measured between two looks at the error."""
RESEMBLES = 0.5
"""Least share of the device's variation that the bank must explain, else the device resembles none of it."""


@dataclass(frozen=True)
class FewShot:
    """A predictor from few measurements.

    Attributes:
        fitted: the predictor, with its learning curve.
        measured: the candidates that were measured, in order.
        reached: whether the wanted error was reached; None where none was wanted.
        own_share: `TransferPredictor.own_share`.
    """

    fitted: FittedPredictor
    measured: tuple[int, ...]
    reached: bool | None
    own_share: float

    @property
    def resembles_bank(self) -> bool:
        """Whether the source devices explain most of what was measured."""
        return (self.steps[-1].bank_share or 0.0) >= RESEMBLES

    @property
    def steps(self) -> tuple[LearningStep, ...]:
        """The learning curve."""
        return self.fitted.learning


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
        steps.append(LearningStep.of(held_out.mean, np.array(values), predictor.bank_share))
        if until_error is not None:
            reached = steps[-1].error_upper <= until_error
    validation = CrossValidation(predictor.kind, FOLDS, 1, scores(held_out, np.array(values)))
    digest = hashlib.sha256(np.column_stack([candidates[measured], values]).tobytes()).hexdigest()[:12]
    fitted = FittedPredictor(predictor, (validation,), digest, tuple(steps))
    return FewShot(fitted, tuple(measured), reached, predictor.own_share)
