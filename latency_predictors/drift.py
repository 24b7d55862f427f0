"""Does a predictor still match its device? A rule for fresh measurements of a few networks.

It no longer does where either happens with a probability of at most `LEVEL` on a device that has not changed:

* too many fresh values lie outside their intervals. On an unchanged device their number is beta-binomial: the coverage
  of a conformal interval made from n rows is itself random (Vovk, "Conditional validity of inductive conformal
  predictors", arXiv:1209.2673, section 2), so a predictor from few rows is not blamed for it;
* the device became faster or slower: the interval of the median ratio, from order statistics, lies beyond `TOLERANCE`,
  which is what the protocol lets the reference network change by.
"""

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from latency_predictors.base import LEVEL as COVERAGE
from latency_predictors.base import Prediction

Floats = NDArray[np.float64]

LEVEL = 0.005
"""Of each of the two rules."""
TOLERANCE = 0.03


@dataclass(frozen=True)
class Drift:
    """How fresh measurements compare with a predictor.

    Attributes:
        rows: compared.
        outside: of them, how many lie outside their interval.
        p_outside: how likely so many are on an unchanged device.
        ratio: median of measured over predicted.
        ratio_lower: lower end of its 99 % interval; 0 where the rows are too few for one.
        ratio_upper: upper end; infinite likewise.
    """

    rows: int
    outside: int
    p_outside: float
    ratio: float
    ratio_lower: float
    ratio_upper: float

    @property
    def reason(self) -> str:
        """Why the predictor no longer matches, in words; empty where it does."""
        found = []
        if self.p_outside < LEVEL:
            found.append(f"{self.outside} of {self.rows} measurements lie outside their 90 % interval")
        if self.ratio_lower > 1 + TOLERANCE:
            found.append(f"measured values are {self.ratio - 1:.0%} above the predicted ones")
        if self.ratio_upper < 1 / (1 + TOLERANCE):
            found.append(f"measured values are {1 - self.ratio:.0%} below the predicted ones")
        return "; ".join(found)


def find_drift(prediction: Prediction, measured: Floats, rows_learned: int) -> Drift:
    """Returns how fresh measurements compare with a predictor.

    Args:
        prediction: of m networks.
        measured: ``(m,)``, above zero.
        rows_learned: that the predictor was made from.
    """
    outside = int(((measured < prediction.lower) | (measured > prediction.upper)).sum())
    rank = min(rows_learned, math.ceil(COVERAGE * (rows_learned + 1) - 1e-9))
    p_outside = float(stats.betabinom.sf(outside - 1, len(measured), rows_learned + 1 - rank, rank))
    ratios = np.sort(measured / prediction.mean)
    # The ends are the order statistics that a median is beyond with a probability of at most LEVEL.
    begin = int(stats.binom.ppf(LEVEL, len(ratios), 0.5)) - 1
    if begin < 0:
        return Drift(len(ratios), outside, p_outside, float(np.median(ratios)), 0.0, math.inf)
    return Drift(
        len(ratios), outside, p_outside, float(np.median(ratios)), float(ratios[begin]), float(ratios[-1 - begin])
    )
