"""Drift within a session: did the device change while a column was measured?

What tells is the reference network, timed beside the rows (``reference_ms``), or else networks that were measured more
than once, each against its own median; and ``measured_at``, in which order. Two limits:

* a row counts as drifted where its reference is beyond the protocol's limit (`statistics.DRIFT`) from the column's
  median;
* a lasting change shows in the medians of the first, second and last third of the session. A device that steadily
  drifts by `DRIFT` from start to end moves them by two thirds of that, `LASTING`. The fastest third is the usual state,
  as disturbances slow a device down. The sample data sets of this product move by 0.6 % at most.
"""

import numpy as np
from numpy.typing import NDArray

from latency_predictors.measured_column import MeasuredColumn
from latency_predictors.statistics import DRIFT, drifted

Floats = NDArray[np.float64]
Mask = NDArray[np.bool_]

LASTING = DRIFT * 2 / 3
LEAST_ROWS = 12
"""With a reading each: four in a third, whose median one disturbed reading does not move."""


def drifted_rows(column: MeasuredColumn) -> tuple[Mask, str] | None:
    """Returns which rows ``(n,)`` of a column were measured while the device was not itself, and how that was.

    None where none was, or nothing tells.
    """
    readings, what = column.numbers("reference_ms"), "the reference network was"
    off = np.zeros(len(readings), bool)
    told = np.isfinite(readings) & (readings > 0)
    if told.sum() >= LEAST_ROWS:
        readings = readings / np.median(readings[told])
        off[told] = [drifted(reading, 1.0) for reading in readings[told]]
    else:
        readings, what = _repeats(column), "networks that were measured again were"
        told = np.isfinite(readings)
    late = _lasting(readings, column.measured_at)
    if not (off | late).any():
        return None
    steady = readings[told & ~(off | late)]
    usual = float(np.median(steady)) if len(steady) else 1.0
    change = np.abs(np.log(readings[told & (off | late)] / usual)).max()
    return off | late, f"{what} up to {100 * np.expm1(change):.1f} % off"


def _repeats(column: MeasuredColumn) -> Floats:
    """Returns each row's latency over the median of its network's; NaN where a network was measured once."""
    readings = np.full(len(column.rows), np.nan)
    for places in column.places_of.values():
        if len(places) > 1:
            readings[places] = column.values[places] / np.median(column.values[places])
    return readings


def _lasting(readings: Floats, measured_at: Floats) -> Mask:
    """Returns the rows of the thirds of the session that were slower than the fastest by more than `LASTING`.

    And by more than three standard errors of the medians, whose squares are pi / 2 of the mean's.
    """
    slow = np.zeros(len(readings), bool)
    told = np.isfinite(readings) & np.isfinite(measured_at)
    if told.sum() < LEAST_ROWS:
        return slow
    first, second = np.quantile(measured_at[told], [1 / 3, 2 / 3])
    thirds = [measured_at <= first, (measured_at > first) & (measured_at <= second), measured_at > second]
    thirds = [part for part in thirds if (part & told).sum() >= LEAST_ROWS // 3]
    medians = [float(np.median(readings[part & told])) for part in thirds]
    rest = np.concatenate([readings[part & told] - m for part, m in zip(thirds, medians, strict=True)])
    error = 1.4826 * float(np.median(np.abs(rest))) * np.sqrt(np.pi / len(rest) * len(thirds))
    for part, median in zip(thirds, medians, strict=True):
        if median - min(medians) > max(LASTING * min(medians), 3 * error):
            slow |= part
    return slow
