"""Which stage's choices the errors of a predictor follow.

An error that depends on what was chosen in one stage is something that the predictor does not know about that stage:
measure more of its variants. For each stage the log residuals are fitted by least squares on the indicators of its
choices; the share of their variance that this explains is adjusted for the number of indicators (Theil's adjusted R²,
"Economic Forecasts and Policy", 1961), so that it is about 0 where errors do not depend on the stage.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from search_spaces.architecture import Architecture

Floats = NDArray[np.float64]

LEAST_ROWS = 3
"""Networks with a choice, below which nothing is said about it."""


@dataclass(frozen=True)
class ChoiceError:
    """Errors of the networks with one choice.

    Attributes:
        choice: as ``kernel=5``.
        rows: networks that have it.
        ratio: geometric mean of measured over predicted.
        lower: lower end of its 95 % interval (Student's t).
        upper: upper end.
    """

    choice: str
    rows: int
    ratio: float
    lower: float
    upper: float


@dataclass(frozen=True)
class StageError:
    """Errors by the choices of one stage.

    Attributes:
        stage: as ``stage3``, or ``network`` for what is chosen once.
        explained: share of the residuals' variance that follows its choices, 0 to 1.
        choices: of the stage, the strongest first.
    """

    stage: str
    explained: float
    choices: tuple[ChoiceError, ...]


def stage_errors(architectures: Sequence[Architecture], predicted: Floats, measured: Floats) -> list[StageError]:
    """Returns the errors by stage, the stage that explains most first.

    Args:
        architectures: n networks.
        predicted: ``(n,)``, above zero.
        measured: ``(n,)``, above zero.
    """
    residuals = np.log(measured / predicted)
    rows: dict[str, dict[str, list[int]]] = {}
    for row, architecture in enumerate(architectures):
        for dimension, value in architecture.values:
            stage, dot, word = dimension.partition(".")
            if not dot and not stage.startswith("place"):
                stage, word = "network", stage
            rows.setdefault(stage, {}).setdefault(f"{word or stage}={value}", []).append(row)
    found = [
        StageError(stage, _explained(residuals, list(choices.values())), _choices(residuals, choices))
        for stage, choices in rows.items()
    ]
    return sorted(found, key=lambda error: -error.explained)


def _explained(residuals: Floats, members: Sequence[Sequence[int]]) -> float:
    indicators = np.ones((len(residuals), 1 + len(members)))
    for column, held in enumerate(members, start=1):
        indicators[:, column] = 0
        indicators[held, column] = 1
    fitted, _, rank, _ = np.linalg.lstsq(indicators, residuals, rcond=None)
    left, total = np.square(residuals - indicators @ fitted).sum(), np.square(residuals - residuals.mean()).sum()
    free = len(residuals) - rank
    if free < 1 or total <= 0:
        return 0.0
    return max(0.0, 1 - float(left / free / (total / (len(residuals) - 1))))


def _choices(residuals: Floats, choices: dict[str, list[int]]) -> tuple[ChoiceError, ...]:
    found = []
    for name, held in choices.items():
        if len(held) >= LEAST_ROWS:
            own = residuals[held]
            reach = float(stats.t.ppf(0.975, len(own) - 1) * own.std(ddof=1) / np.sqrt(len(own)))
            mean = float(own.mean())
            ends = [float(np.exp(value)) for value in (mean, mean - reach, mean + reach)]
            found.append(ChoiceError(name, len(held), ends[0], ends[1], ends[2]))
    return tuple(sorted(found, key=lambda choice: -abs(np.log(choice.ratio))))
