"""What repeated blocks say about a latency: the centre, its interval, and whether it may be used.

A block is one process launch. Inferences of one process share its memory layout and its moment, so that their spread
says little about the next launch; the medians of launches are independent draws, and Student's t on their logarithms
gives the interval.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from scipy.special import stdtrit

Verdict = Literal["accepted", "noisy", "refused"]

CONFIDENCE = 0.95
ACCEPTED_HALF_WIDTH = 0.02
"""Relative half-width below which a measurement is accepted, and at which repeating it stops."""
REFUSED_HALF_WIDTH = 0.05
"""Relative half-width above which a measurement is refused; between the two it is noisy: kept, with lower weight."""
DRIFT = 0.05
"""Relative change of the reference network beyond which what was measured beside it does not count."""


@dataclass(frozen=True)
class Interval:
    """A latency in milliseconds with its confidence interval.

    Attributes:
        centre: geometric mean of the block medians.
        lower: lower end; 0 for a single block, which says nothing about the spread.
        upper: upper end; infinite for a single block.
    """

    centre: float
    lower: float
    upper: float

    @property
    def half_width(self) -> float:
        """Relative half-width: 0.02 means that the ends are 2 % from the centre; infinite for a single block."""
        return self.upper / self.centre - 1

    def widened(self, factor: float) -> "Interval":
        """Returns the interval with both ends further away by a factor of 1 or more."""
        return Interval(self.centre, self.lower / factor, self.upper * factor)


def interval(block_medians_ms: Sequence[float], confidence: float = CONFIDENCE) -> Interval:
    """Returns the Student-t interval of the mean of log block medians, in milliseconds.

    Args:
        block_medians_ms: (n,) at least one, all above zero.
        confidence: probability that the interval holds the mean over launches.

    Raises:
        ValueError: no block, or a median that is not above zero.

    Example:
        >>> round(interval([1.0, 1.02, 0.98, 1.01, 0.99]).half_width, 3)
        0.02
    """
    if not block_medians_ms or not all(math.isfinite(value) and value > 0 for value in block_medians_ms):
        raise ValueError(f"block medians must be above zero and at least one, got {list(block_medians_ms)}")
    logs = np.log(np.asarray(block_medians_ms, dtype=np.float64))
    centre = float(np.exp(logs.mean()))
    if len(logs) == 1:
        return Interval(centre, 0.0, math.inf)
    quantile = float(stdtrit(len(logs) - 1, 0.5 + confidence / 2))
    reach = math.exp(quantile * float(logs.std(ddof=1)) / math.sqrt(len(logs)))
    return Interval(centre, centre / reach, centre * reach)


def verdict(half_width: float) -> Verdict:
    """Returns what a relative half-width means for the use of a measurement."""
    if half_width < ACCEPTED_HALF_WIDTH:
        return "accepted"
    return "noisy" if half_width <= REFUSED_HALF_WIDTH else "refused"


def drifted(reference_ms: float, usual_ms: float) -> bool:
    """Returns whether the reference network ran so much slower or faster than usual that its neighbours do not count.

    There is no correction: what slows one network by 10 % slows another by 3 or by 20 %.
    """
    return abs(math.log(reference_ms / usual_ms)) > math.log1p(DRIFT)
