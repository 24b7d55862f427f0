"""LatencyReport: what a predictor says against what was measured, as data for the page and the picture."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Self

import numpy as np

from search_spaces.architecture import Architecture

if TYPE_CHECKING:
    from latency_predictors.base import Floats, Prediction
    from latency_predictors.learning_curve import LearningStep
    from latency_predictors.metrics import Scores
    from latency_predictors.stage_errors import StageError


@dataclass(frozen=True)
class LatencyReport:
    """A predictor against measurements.

    Attributes:
        predictor: its id.
        device: id of its profile.
        metric: what is predicted, with its unit.
        keys: of n networks.
        predicted: of each.
        lower: of each, lower end of the 90 % interval.
        upper: upper end.
        measured: of each.
        scores: of the predictions.
        drift: why the predictor no longer matches its device; empty where it does.
        stages: errors by stage.
        curve: expected error against networks measured; empty for a predictor of old.
    """

    predictor: str
    device: str
    metric: str
    keys: tuple[str, ...]
    predicted: tuple[float, ...]
    lower: tuple[float, ...]
    upper: tuple[float, ...]
    measured: tuple[float, ...]
    scores: "Scores"
    drift: str
    stages: "tuple[StageError, ...]"
    curve: "tuple[LearningStep, ...]"

    @classmethod
    def of(
        cls,
        predictor: str,
        device: str,
        metric: str,
        architectures: Sequence[Architecture],
        prediction: "Prediction",
        measured: "Floats",
        *,
        rows_learned: int,
        curve: "Sequence[LearningStep]" = (),
    ) -> Self:
        """Returns the report of a prediction of n networks and what was measured."""
        from latency_predictors.drift import find_drift
        from latency_predictors.metrics import scores
        from latency_predictors.stage_errors import stage_errors

        ends = (prediction.mean, prediction.lower, prediction.upper, np.asarray(measured))
        predicted, lower, upper, values = (tuple(end.tolist()) for end in ends)
        return cls(
            predictor,
            device,
            metric,
            tuple(architecture.key for architecture in architectures),
            predicted,
            lower,
            upper,
            values,
            scores(prediction, measured),
            find_drift(prediction, measured, rows_learned).reason,
            tuple(stage_errors(architectures, prediction.mean, measured)),
            tuple(curve),
        )

    @property
    def quantity(self) -> str:
        """The metric in words, as ``latency (ms)``."""
        name, _, unit = self.metric.rpartition("_")
        return f"{name.replace('_', ' ')} ({unit})"

    def to_dict(self) -> dict[str, object]:
        """Returns JSON values."""
        return asdict(self) | {"quantity": self.quantity}
