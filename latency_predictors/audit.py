"""The audit of a measurement set: are its rows what the device measures, or has somebody changed some of them?

Robust fitting bears rows that are off at random; rows that are off together, such as all networks of one kind a third
too fast, bend a predictor and look right to it. Only measuring again tells. A few rows do:

* which: one row in every equal part of the rows sorted by their held-out residual, with a random start (systematic
  sampling; Cochran, "Sampling Techniques", 1977, chapter 8). Each row is as likely as any other, so what is found among
  them holds for the set, and rows that are off together lie together, so that their share is hit nearly exactly.
* what counts: a row is contradicted where the two values differ by more than their intervals and `TOLERANCE`, which
  the protocol lets an accepted measurement be wrong by in at most `HONEST` of the cases.
* when it is too many: where so many contradicted rows had a probability below `LEVEL` if `HONEST` of all were wrong
  (binomial).
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from latency_predictors.linear import LinearPredictor

Floats = NDArray[np.float64]

SHARE = 0.03
"""Of the rows to measure again."""
LEAST = 20
"""Rows that an audit measures at least: fewer cannot tell a tenth of bad rows from an unlucky one."""
TOLERANCE = 0.05
HONEST = 0.01
"""What the protocol promises: accepted and more than 5 % wrong in at most 1 % of the cases."""
LEVEL = 0.05


@dataclass(frozen=True)
class Verdict:
    """What an audit found.

    Attributes:
        audited: rows compared.
        contradicted: rows that a fresh measurement contradicts.
        p_value: how likely so many are where `HONEST` of all rows are wrong.
    """

    audited: int
    contradicted: int
    p_value: float

    @property
    def passed(self) -> bool:
        """Whether the set may be learned from."""
        return self.p_value >= LEVEL


def choose_rows(
    features: Floats,
    values: Floats,
    noise: Floats | None,
    columns: Sequence[str],
    rng: np.random.Generator,
    *,
    share: float = SHARE,
) -> list[int]:
    """Returns the rows to measure again, `share` of them and at least `LEAST` (or all there are).

    Args:
        features: ``(n, d)``.
        values: ``(n,)``, as stored, above zero.
        noise: ``(n,)``, relative uncertainty of each, or None.
        columns: names of the features.
        rng: of the start.
        share: of the rows.

    Raises:
        InputError: too few different networks for a predictor.
    """
    predictor = LinearPredictor("value", "", columns=columns).fit_features(features, values, noise)
    residuals = np.log(values / predictor.predict_held_out(features).mean)
    count = min(len(values), max(LEAST, math.ceil(share * len(values))))
    step = len(values) / count
    places = (rng.uniform(0, step) + step * np.arange(count)).astype(np.int64)
    return [int(row) for row in np.argsort(residuals, kind="stable")[places]]


def contradicted(stored: Floats, stored_half: Floats, fresh: Floats, fresh_half: Floats) -> NDArray[np.bool_]:
    """Returns which stored values ``(m,)`` fresh ones contradict; the halves are relative half-widths of intervals."""
    allowed = np.log1p(TOLERANCE) + np.log1p(stored_half) + np.log1p(fresh_half)
    return np.asarray(np.abs(np.log(fresh / stored)) > allowed)


def judge(contradictions: NDArray[np.bool_]) -> Verdict:
    """Returns the verdict on a set whose audited rows ``(m,)`` were contradicted or not."""
    audited, found = len(contradictions), int(contradictions.sum())
    return Verdict(audited, found, float(stats.binom.sf(found - 1, audited, HONEST)))
