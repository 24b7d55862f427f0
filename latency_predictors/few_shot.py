"""A new device from few measurements, step by step: choose networks, measure, learn, say how good it is, stop.

The learner is asked for a batch of networks and told what they cost, by whoever can measure them. After every batch the
expected error is known (`latency_predictors.learning_curve`). The chosen networks lie far apart, so others tend to be
predicted better than it says.
"""

import hashlib
from collections.abc import Mapping
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

BATCH = 2
"""Networks measured between two looks at the error."""
RESEMBLES = 0.5
"""Least share of the device's variation that the bank must explain, else the device resembles none of it."""


@dataclass(frozen=True)
class Cost:
    """What a network costs on the new device.

    Attributes:
        value: in the unit of the learner's metric.
        noise: its relative standard error, as far as known.
    """

    value: float
    noise: float = 0.0


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


class FewShotLearner:
    """Chooses networks of a new device and learns from them: `ask` and `tell` in turn until nothing is asked for.

    The first ten are chosen before any measurement. Told the same costs, the same learner asks for the same networks.

    Args:
        bank: source devices.
        candidates: ``(m, p)`` features of networks that can be measured.
        samples: most networks to learn from, at least 10.
        device: id of the new device's profile.
        metric: what is measured, with its unit in the name.
        choose: the most telling networks; at random otherwise.
        until_error: stops as soon as the upper end of the expected error is at most this fraction.
        seed: of choice and folds.
        names: of the features.

    Attributes:
        measured: the candidates learned from, in order.
        steps: the learning curve so far.

    Raises:
        InputError: fewer samples than 10, fewer candidates than samples, or a wanted error not above zero.
    """

    def __init__(
        self,
        bank: SourceBank,
        candidates: Floats,
        samples: int,
        *,
        device: str,
        metric: str = "latency_ms",
        choose: bool = True,
        until_error: float | None = None,
        seed: int = 0,
        names: tuple[str, ...] = FEATURE_NAMES,
    ) -> None:
        if samples < LEAST_ROWS:
            raise InputError(f"samples must be at least {LEAST_ROWS}, which an interval needs, got {samples}")
        if samples > len(candidates):
            raise InputError(
                f"samples must be at most {len(candidates)}, the networks that can be measured, got {samples}"
            )
        if until_error is not None and not until_error > 0:
            raise InputError(f"a wanted error must be above zero, as a fraction such as 0.05, got {until_error}")
        self._bank, self._candidates, self._samples = bank, candidates, samples
        self._device, self._metric, self._seed, self._names = device, metric, seed, names
        self._choose, self._until_error = choose, until_error
        self._rng = np.random.default_rng(seed)
        self._drawn = [int(row) for row in self._rng.permutation(len(candidates))]
        self._costs: list[Cost] = []
        self._refused: list[int] = []
        self._result: FewShot | None = None
        self._goal = LEAST_ROWS  # networks to learn from before the next look at the error
        self.measured: list[int] = []
        self.steps: list[LearningStep] = []

    def ask(self) -> list[int]:
        """Returns the candidates to measure next, the most telling first; none once it has learned enough.

        Raises:
            InputError: too few candidates are left, as others could not be measured.
        """
        if self._result:
            return []
        count = self._goal - len(self.measured)
        left = np.setdiff1d(np.arange(len(self._candidates)), [*self.measured, *self._refused])
        if count > len(left):
            raise InputError(
                f"of {len(self._candidates)} networks {len(self._refused)} could not be measured, which leaves fewer "
                f"than the {self._samples} wanted: give sources with more networks"
            )
        if not self._choose:
            free = set(left.tolist())
            return [row for row in self._drawn if row in free][:count]
        known = self._candidates[self.measured] if self.measured else None
        chosen = choose_networks(self._bank, self._candidates[left], count, self._rng, known)
        return [int(left[row]) for row in chosen]

    def tell(self, costs: Mapping[int, Cost | None]) -> None:
        """Learns what the candidates asked for cost; None for one that cannot be measured: another will be asked for.

        Args:
            costs: by candidate, in the order of `ask`.
        """
        for row, cost in costs.items():
            if cost is None:
                self._refused.append(row)
            else:
                self.measured.append(row)
                self._costs.append(cost)
        if len(self.measured) == self._goal:
            self._learn()

    def result(self) -> FewShot:
        """Returns the predictor, once nothing more is asked for."""
        if self._result is None:
            raise RuntimeError("the learner still asks for measurements")
        return self._result

    def _learn(self) -> None:
        features = self._candidates[self.measured]
        values = np.array([cost.value for cost in self._costs])
        noise = np.array([cost.noise for cost in self._costs])
        predictor = TransferPredictor(
            self._metric, self._device, seed=self._seed, columns=self._names, bank=self._bank
        ).fit_features(features, values, noise)  # fmt: skip
        held_out = predictor.predict_held_out(features)
        self.steps.append(LearningStep.of(held_out.mean, values, predictor.bank_share))
        self._goal = min(self._samples, self._goal + BATCH)
        reached = None if self._until_error is None else self.steps[-1].error_upper <= self._until_error
        if reached or len(self.measured) == self._samples:
            validation = CrossValidation(predictor.kind, FOLDS, 1, scores(held_out, values))
            digest = hashlib.sha256(np.column_stack([features, values]).tobytes()).hexdigest()[:12]
            fitted = FittedPredictor(predictor, (validation,), digest, tuple(self.steps))
            self._result = FewShot(fitted, tuple(self.measured), reached, predictor.own_share)
