"""Expected hypervolume improvement of losses, exact for independent normal objectives of any number.

The region that a front leaves free is cut into disjoint boxes; over a box the expectation is a product of
one-dimensional expected improvements (Couckuyt, Deschrijver and Dhaene, "Fast calculation of multiobjective probability
of improvement and expected improvement criteria for Pareto optimization", J. Global Optimization 60, 2014; Yang,
Emmerich, Deutz and Bäck, "Efficient computation of expected hypervolume improvement using box decomposition
algorithms", J. Global Optimization 75, 2019).
"""

from dataclasses import dataclass
from typing import Self

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtr

from nas.pareto import non_dominated

Floats = NDArray[np.float64]

MAX_FRONT = {2: 400, 3: 120, 4: 40}
"""Points of a front that are kept per number of objectives; the boxes of more would be too many to be quick."""


@dataclass(frozen=True)
class FreeBoxes:
    """The part of objective space that lies below the reference point and is not dominated by a front.

    Attributes:
        lower: ``(b, m)``; -inf where a box is open.
        upper: ``(b, m)``.
    """

    lower: Floats
    upper: Floats

    @classmethod
    def of(cls, losses: Floats, reference: Floats) -> Self:
        """Cuts the free region into disjoint boxes.

        Args:
            losses: ``(n, m)``; dominated rows and rows that are not below the reference change nothing.
            reference: ``(m,)``.
        """
        objectives = len(reference)
        inside = np.unique(losses[(losses < reference).all(1)], axis=0)
        front = inside[non_dominated(inside)]
        front = _thinned(front, reference, MAX_FRONT.get(objectives, 20))
        lower = np.full((1, objectives), -np.inf)
        upper = reference[None].astype(np.float64)
        for point in front:  # sorted by the first objective: two objectives give one more box than points
            cut = (upper > point).all(1)
            parts_lower, parts_upper = [lower[~cut]], [upper[~cut]]
            below, above = lower[cut], upper[cut]
            for axis in range(objectives):
                # What is left of the point on this axis, and not left of it on the axes before.
                part = above.copy()
                part[:, axis] = np.minimum(part[:, axis], point[axis])
                some = (part > below).all(1)
                parts_lower.append(below[some])
                parts_upper.append(part[some])
                below = below.copy()
                below[:, axis] = np.maximum(below[:, axis], point[axis])
            lower, upper = np.concatenate(parts_lower), np.concatenate(parts_upper)
        return cls(lower, upper)

    def expected_improvement(self, mean: Floats, std: Floats) -> Floats:
        """Returns ``(n,)``: the expected gain in hypervolume of each candidate, objectives independent and normal.

        Args:
            mean: ``(n, m)``.
            std: ``(n, m)``; 0 where a value is certain.
        """
        gain = np.ones((len(mean), len(self.upper)))
        for axis in range(mean.shape[1]):
            ends, inverse = np.unique(np.concatenate([self.lower[:, axis], self.upper[:, axis]]), return_inverse=True)
            below = _mean_shortfall(ends, mean[:, axis : axis + 1], std[:, axis : axis + 1])[:, inverse]
            boxes = len(self.upper)
            gain *= below[:, boxes:] - below[:, :boxes]
        total: Floats = gain.sum(1)
        return total


def _mean_shortfall(ends: Floats, mean: Floats, std: Floats) -> Floats:
    """Returns E[max(end - y, 0)] of y ~ N(mean, std^2): the expected improvement of Jones et al. (1998), eq. 15."""
    safe = np.maximum(std, 1e-12)
    gap = np.where(np.isinf(ends), -np.inf, ends)[None] - mean
    with np.errstate(invalid="ignore", over="ignore", under="ignore"):
        z = gap / safe
        value = gap * ndtr(z) + safe * np.exp(-0.5 * z * z) / np.sqrt(2 * np.pi)
    value = np.where(std > 0, value, np.maximum(gap, 0.0))
    shortfall: Floats = np.where(np.isneginf(gap), 0.0, value)
    return shortfall


def _thinned(front: Floats, reference: Floats, most: int) -> Floats:
    """Drops the points whose nearest kept neighbour is closest until ``most`` are left (farthest point first)."""
    if len(front) <= most:
        return front
    scaled = (front - front.min(0)) / np.maximum(reference - front.min(0), 1e-12)
    kept = [int(row) for row in np.unique(scaled.argmin(0))]
    distance = np.linalg.norm(scaled[:, None] - scaled[kept], axis=2).min(1)
    while len(kept) < most:
        kept.append(int(distance.argmax()))
        distance = np.minimum(distance, np.linalg.norm(scaled - scaled[kept[-1]], axis=1))
    thinned: Floats = front[np.sort(kept)]
    return thinned
