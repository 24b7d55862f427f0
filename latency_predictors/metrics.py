"""How good predictions are: errors, rank correlations and intervals, against measured values."""

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, fields
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from latency_predictors.base import Prediction

Floats = NDArray[np.float64]
TOLERANCE = 0.1
"""Relative error of the share that users ask for first."""


@dataclass(frozen=True)
class Scores:
    """Of predictions for networks that were not learned from.

    Attributes:
        rows: networks compared.
        mape: mean of ``|predicted / measured - 1|``, as a fraction.
        log_error: mean of ``|ln(predicted / measured)|``; too fast and too slow count alike, and a disturbed
            measurement cannot outweigh all others, so this is what predictors are chosen by.
        within_10: share of networks with a relative error of at most 10 %.
        spearman: rank correlation; 0 where all predictions or all values are equal.
        kendall: tau-b; 0 likewise.
        coverage: share of measured values that lie in their interval.
        interval_width: mean of ``(upper - lower) / predicted``.
    """

    rows: int
    mape: float
    log_error: float
    within_10: float
    spearman: float
    kendall: float
    coverage: float
    interval_width: float

    def __post_init__(self) -> None:
        if self.rows < 2:
            raise ValueError(f"scores need at least 2 networks, got {self.rows}")
        if not all(np.isfinite(list(asdict(self).values()))):
            raise ValueError(f"scores must be finite, got {self}")

    @classmethod
    def mean(cls, scores: Sequence[Self]) -> Self:
        """Returns the mean of each score over repetitions with the same networks."""
        names = [field.name for field in fields(cls) if field.name != "rows"]
        return cls(rows=scores[0].rows, **{n: float(np.mean([getattr(s, n) for s in scores])) for n in names})


def scores(prediction: Prediction, measured: Floats) -> Scores:
    """Returns how good a prediction is.

    Args:
        prediction: of n networks, at least 2.
        measured: ``(n,)``, above zero, in the prediction's unit.

    Raises:
        ValueError: the lengths differ, there are fewer than 2 networks, or a measured value is not above zero.
    """
    if measured.shape != prediction.mean.shape:
        raise ValueError(f"a measured value for each prediction: got {measured.shape} for {prediction.mean.shape}")
    if not (np.isfinite(measured) & (measured > 0)).all():
        raise ValueError("measured values must be finite and above zero")
    errors = np.abs(prediction.mean / measured - 1)
    return Scores(
        rows=len(measured),
        mape=float(errors.mean()),
        log_error=float(np.abs(np.log(prediction.mean / measured)).mean()),
        within_10=float((errors <= TOLERANCE).mean()),
        spearman=_correlation(stats.spearmanr, prediction.mean, measured),
        kendall=_correlation(stats.kendalltau, prediction.mean, measured),
        coverage=float(((prediction.lower <= measured) & (measured <= prediction.upper)).mean()),
        interval_width=float(((prediction.upper - prediction.lower) / prediction.mean).mean()),
    )


def _correlation(statistic: Callable[[Floats, Floats], Any], one: Floats, other: Floats) -> float:
    # Any: scipy's result types differ by statistic.
    if np.ptp(one) == 0 or np.ptp(other) == 0:
        return 0.0
    return float(statistic(one, other).statistic)
