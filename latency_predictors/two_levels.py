"""Rows at two levels: do some networks of a column cost a constant factor more than the others of their kind?

Batch sizes or precisions that were mixed up leave latencies at two levels, a factor apart whatever the network. A
mixture of two regressions with common slopes (classification expectation-maximisation; Celeux and Govaert, "A
classification EM algorithm for clustering and two stochastic versions", 1992) finds the levels even where neither is
rare; what makes them a finding is that hardly a row lies between them. Networks of unlike structure lie at several
levels by themselves, so much depends on what explains a latency: where layers are known, a factor of `FACTOR` stands
out; where choices are but numbers, one of `FACTOR_OF_NUMBERS`.

`docs/latency.md` says how many mix-ups of which kind were found among measured rows.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from latency_predictors.features import CLASSES, FEATURE_NAMES

Floats = NDArray[np.float64]
Mask = NDArray[np.bool_]

FACTOR = 1.9
"""Least factor between levels: a batch of two, or fp32 against int8, with what the regression may be off."""
FACTOR_OF_NUMBERS = 6.0
"""Likewise where layers are not known: cells of one space differ by up to 4.5 without a mix-up (seen on a board)."""
LEAST_ROWS = 20
LEAST_SHARE = 0.1
"""Of the rows at the rarer level; fewer are single disturbed rows."""
BETWEEN = 0.02
"""Most rows in the middle third between the levels."""
APART = 5.0
"""Least distance between levels, in robust standard deviations of one."""
RIDGE = 0.01
STEPS = 20
_QUANTITIES = ("calls", "macs", "values", "weights")
_BESIDE = ("squeeze_excite.calls", "gated.values", "depthwise_5.calls", "elementwise.calls")
"""What costs some devices much more than its arithmetic."""


@dataclass(frozen=True)
class Levels:
    """Two levels of rows.

    Attributes:
        upper: ``(n,)``, which rows are at the upper one.
        factor: between the levels, above 1.
    """

    upper: Mask
    factor: float


def explained_by(features: Floats) -> Floats:
    """Returns the regressors ``(n, 8)`` of physical features ``(n, f)``: totals as logarithms, and what is dear."""
    columns = {name: features[:, place] for place, name in enumerate(FEATURE_NAMES)}
    totals = [np.sum([columns[f"{kind}.{quantity}"] for kind in CLASSES], axis=0) for quantity in _QUANTITIES]
    found: Floats = np.log1p(np.column_stack([*totals, *(columns[name] for name in _BESIDE)]))
    return found


def find_levels(values: Floats, regressors: Floats, factor: float = FACTOR) -> Levels | None:
    """Returns the two levels of values ``(n,)``, above zero, that regressors ``(n, p)`` do not explain.

    None where there is one level, where the rows are too few to tell, or where their factor is below ``factor``.
    """
    if len(values) < LEAST_ROWS:
        return None
    logs = np.log(values)
    spread = regressors.std(axis=0)
    inputs = ((regressors - regressors.mean(axis=0)) / np.where(spread > 0, spread, 1))[:, spread > 0]
    tried = [_levels(logs, inputs, start) for start in (logs, _residuals(logs, inputs, ()))]
    found = [item for item in tried if item is not None]
    if not found:
        return None
    _, upper, residuals = min(found, key=lambda item: item[0])
    lower_at, upper_at = float(np.median(residuals[~upper])), float(np.median(residuals[upper]))
    distance = upper_at - lower_at
    between = (residuals > lower_at + distance / 3) & (residuals < upper_at - distance / 3)
    deviation = max(_deviation(residuals[upper]), _deviation(residuals[~upper]))
    rarer = min(upper.sum(), (~upper).sum())
    if distance < np.log(factor) or rarer < LEAST_SHARE * len(logs) or between.mean() > BETWEEN:
        return None
    return Levels(upper, float(np.exp(distance))) if distance > APART * deviation else None


def _levels(logs: Floats, inputs: Floats, start: Floats) -> tuple[float, Mask, Floats] | None:
    """Returns the squared error within the levels, which rows are at the upper one, and the residuals."""
    upper, residuals = _cut(start), start
    for _ in range(STEPS):
        residuals = _residuals(logs, inputs, (upper.astype(np.float64),))
        before, upper = upper, _cut(residuals)
        if (before == upper).all():
            break
    if not 1 < upper.sum() < len(upper) - 1:
        return None
    scatter = sum(float(((part - part.mean()) ** 2).sum()) for part in (residuals[upper], residuals[~upper]))
    return scatter, upper, residuals


def _residuals(logs: Floats, inputs: Floats, levels: Sequence[Floats]) -> Floats:
    """Returns what ridge regression on the inputs, beside free levels, leaves; the levels stay in it."""
    free = np.column_stack([np.ones(len(logs)), *levels])
    columns = np.hstack([free, inputs])
    penalty = np.diag([0.0] * free.shape[1] + [RIDGE * len(logs)] * inputs.shape[1])
    weights = np.linalg.lstsq(columns.T @ columns + penalty, columns.T @ logs, rcond=None)[0]
    rest: Floats = logs - inputs @ weights[free.shape[1] :]
    return rest


def _cut(values: Floats) -> Mask:
    """Returns which values are in the upper of the two groups with the least variance within (Fisher, 1958)."""
    ordered = np.sort(values)
    count = np.arange(1, len(ordered))
    total = np.cumsum(ordered)
    gain = (total[:-1] / count - (total[-1] - total[:-1]) / count[::-1]) ** 2 * count * count[::-1]
    place = int(gain.argmax())
    upper: Mask = values > (ordered[place] + ordered[place + 1]) / 2
    return upper


def _deviation(values: Floats) -> float:
    return 1.4826 * float(np.median(np.abs(values - np.median(values))))
