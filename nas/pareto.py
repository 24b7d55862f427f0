"""Pareto dominance, hypervolume and the knee, for losses: less is better in every column.

A row dominates another if it is no worse in every column and better in one.
"""

import numpy as np
from numpy.typing import ArrayLike, NDArray


def non_dominated(losses: ArrayLike) -> NDArray[np.bool_]:
    """Returns which rows no other row dominates; equal rows are all kept.

    Args:
        losses: ``(n, m)``, one row for each candidate; infinities are allowed.

    Returns:
        ``(n,)`` mask.

    Raises:
        ValueError: not two-dimensional, or a NaN, which is neither better nor worse than anything.
    """
    array = _checked(losses)
    mask = np.zeros(len(array), np.bool_)
    # In lexicographic order the first of the remaining rows is dominated by none of them.
    remaining = np.lexsort(array.T[::-1]) if array.size else np.arange(len(array))
    while len(remaining):
        best = array[remaining[0]]
        mask[remaining[(array[remaining] == best).all(1)]] = True
        remaining = remaining[(array[remaining] < best).any(1)]
    return mask


def ranks(losses: ArrayLike) -> NDArray[np.int64]:
    """Returns the layer of each row: 1 is the front, 2 the front without layer 1, and so on.

    Non-dominated sorting: Deb et al., "A fast and elitist multiobjective genetic algorithm: NSGA-II", 2002, sec. III.

    Args:
        losses: ``(n, m)`` without NaN.

    Returns:
        ``(n,)`` counted from 1.
    """
    array = _checked(losses)
    layers = np.zeros(len(array), np.int64)
    layer = 0
    while not layers.all():
        layer += 1
        left = np.flatnonzero(layers == 0)
        layers[left[non_dominated(array[left])]] = layer
    return layers


def hypervolume(losses: ArrayLike, reference: ArrayLike) -> float:
    """Returns the exact volume between a set of points and a reference point, in the product of the losses' units.

    By slicing along the last objective (HSO: While et al., "A faster algorithm for calculating hypervolume", 2006,
    section III); n points in m dimensions take O(n^(m-1) log n), meant for fronts of hundreds of points and m up to 4.

    Args:
        losses: ``(n, m)``; rows that are not better than the reference in every column add nothing.
        reference: ``(m,)``, finite.

    Raises:
        ValueError: a NaN, a reference that is not finite, or shapes that do not fit.
    """
    array, corner = _checked(losses), np.asarray(reference, np.float64)
    if corner.shape != (array.shape[1],) or not np.isfinite(corner).all():
        raise ValueError(f"the reference must be {array.shape[1]} finite values, got {corner}")
    if np.isneginf(array).any():
        raise ValueError("the volume of an infinitely good point is not finite")
    inside = array[(array < corner).all(1)]
    return _volume(inside[non_dominated(inside)], corner)


def knee(losses: ArrayLike) -> int:
    """Returns the row of the knee of a front: the one furthest in front of the chord between its ends.

    Each column is scaled to 0..1 over the given rows; in two dimensions the chord is then x + y = 1, in more the plane
    through the unit points stands in for it, so that the knee is the row with the least sum. The first of equals; an
    end where nothing lies in front of the chord. Source: Das, "On characterizing the knee of the Pareto curve based on
    Normal-Boundary Intersection", Structural Optimization 18, 1999; the scaling and the plane in more than two
    dimensions are our simplification.

    Args:
        losses: ``(n, m)``, finite, n at least 1; rows that are dominated can be left in, but they move the ends.

    Raises:
        ValueError: no rows, or a value that is not finite.
    """
    return int(np.argmin(chord_excess(losses)))


def chord_excess(losses: ArrayLike) -> NDArray[np.float64]:
    """Returns how far each row lies behind the chord that `knee` describes; negative in front of it.

    Args:
        losses: ``(n, m)``, finite, n at least 1.

    Returns:
        ``(n,)`` distances in units of the scaled columns.
    """
    scaled = unit_scaled(losses)
    excess: NDArray[np.float64] = (scaled.sum(1) - 1) / np.sqrt(scaled.shape[1])
    return excess


def unit_scaled(losses: ArrayLike) -> NDArray[np.float64]:
    """Returns each column scaled to 0..1 over the rows; a constant column becomes 0.

    Raises:
        ValueError: no rows, or a value that is not finite.
    """
    array = _checked(losses)
    if not len(array) or not np.isfinite(array).all():
        raise ValueError(f"at least one row, and finite losses only, got {array}")
    low = array.min(0)
    span = array.max(0) - low
    scaled: NDArray[np.float64] = (array - low) / np.where(span > 0, span, 1)
    return scaled


def _checked(losses: ArrayLike) -> NDArray[np.float64]:
    array = np.asarray(losses, np.float64)
    if array.ndim != 2 or np.isnan(array).any():
        raise ValueError(f"losses must be (n, m) without NaN, got shape {array.shape}: {array}")
    return array


def _volume(front: NDArray[np.float64], corner: NDArray[np.float64]) -> float:
    """The volume of points that are all better than the corner; dominated ones do no harm."""
    if not len(front):
        return 0.0
    if len(corner) == 1:
        return float(corner[0] - front.min())
    ordered = front[np.argsort(front[:, -1], kind="stable")]
    if len(corner) == 2:
        lowest = np.minimum.accumulate(ordered[:, 0])
        heights = np.diff(ordered[:, 1], append=corner[1])
        return float(heights @ (corner[0] - lowest))
    volume = 0.0
    for count, (height, above) in enumerate(zip(ordered[:, -1], [*ordered[1:, -1], corner[-1]], strict=True), start=1):
        if above > height:
            slice_ = ordered[:count, :-1]
            volume += float(above - height) * _volume(slice_[non_dominated(slice_)], corner[:-1])
    return volume
