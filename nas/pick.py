"""Choosing networks from a front: the knee, the best within budgets, or a few spread along it."""

from collections.abc import Iterable, Sequence
from functools import partial

import numpy as np
from numpy.typing import NDArray

from nas.errors import InputError
from nas.front import Front, FrontPoint, keeps
from nas.objectives import Constraint
from nas.pareto import chord_excess, non_dominated, unit_scaled

_LOSS_FACTOR = 2.0  # see `_spread`


def pick(
    front: Front, rule: str | None = None, within: Iterable[Constraint] = (), count: int = 1
) -> tuple[FrontPoint, ...]:
    """Returns up to ``count`` networks, best first.

    Only networks that keep the run's own constraints and these budgets count, and of those only the ones that no
    other of them dominates. A budget on a value that is no objective may therefore pick a network off the run's front.

    Args:
        front: of a run.
        rule: ``knee`` (`nas.pareto.knee`, then the next nearest to it in that sense), an objective's name such as
            ``accuracy`` (best in it first), or ``spread`` (the most accurate, the knee, a cheap one, then whatever
            lies furthest from those). None: spread for several, accuracy within budgets, else knee.
        within: budgets on values that the networks have.
        count: at least 1; fewer come back where the front has fewer.

    Raises:
        InputError: an unknown rule, a budget on a value that is not known, or no network within the budgets; the
            message gives the nearest value.
    """
    budgets = tuple(within)
    if rule is None:
        rule = "spread" if count > 1 else "accuracy" if budgets else "knee"
    objectives = {objective.name: objective for objective in front.objectives}
    if rule not in {"knee", "spread", *objectives}:
        raise InputError(f"a rule is knee, spread or an objective ({', '.join(objectives)}), got {rule!r}")
    if count < 1:
        raise InputError(f"count must be at least 1, got {count}")
    points = within_budgets(front, budgets)
    losses = np.array([point.losses(front.objectives) for point in points])
    kept = np.flatnonzero(non_dominated(losses))
    points, losses = [points[row] for row in kept], losses[kept]
    if rule == "spread":
        order = _spread(losses, list(objectives).index("accuracy"), count)
    elif rule == "knee":
        order = np.argsort(chord_excess(losses), kind="stable").tolist()
    else:
        # Of equals, the one with the lesser sum of the other scaled losses.
        first = losses[:, list(objectives).index(rule)]
        order = np.lexsort([unit_scaled(losses).sum(1), first]).tolist()
    return tuple(points[row] for row in order[:count])


def within_budgets(front: Front, budgets: tuple[Constraint, ...]) -> list[FrontPoint]:
    """Returns the networks that keep the run's own constraints and these budgets, in the order of the front.

    Raises:
        InputError: a budget on a value that is not known, or no such network; the message gives the nearest value.
    """
    feasible = [point for point in front.points if point.feasible]
    if not feasible:
        constraints = " and ".join(constraint.text for constraint in front.constraints)
        raise InputError(
            f"none of the {len(front.points)} networks of run {front.run} keeps its constraints"
            + (f" ({constraints}): search longer or loosen them" if front.points else ": search first")
        )
    known = sorted(set.intersection(*(set(point.values) for point in feasible)))
    for budget in budgets:
        if budget.objective.name not in known:
            raise InputError(f"run {front.run} knows no {budget.objective.name}; it knows {', '.join(known)}")
    points = [point for point in feasible if keeps(point.values, budgets)]
    if not points:
        raise InputError(f"no network of run {front.run} keeps {_nearest(feasible, budgets)}")
    return points


def _nearest(points: Sequence[FrontPoint], budgets: tuple[Constraint, ...]) -> str:
    """Says which budgets cannot be kept, and the nearest values."""
    impossible = []
    for budget in budgets:
        nearest = min(points, key=partial(_violation, (budget,)))
        if not keeps(nearest.values, [budget]):
            value = nearest.values[budget.objective.name].value
            impossible.append(f"{budget.text}; the nearest has {value:.4g} ({nearest.key}), so loosen it to that")
    if impossible:
        return " nor ".join(impossible)
    nearest = min(points, key=partial(_violation, budgets))
    values = ", ".join(f"{b.objective.name} {nearest.values[b.objective.name].value:.4g}" for b in budgets)
    texts = " and ".join(budget.text for budget in budgets)
    return f"{texts} together, though each alone can be kept; the nearest has {values} ({nearest.key}), so loosen one"


def _violation(budgets: tuple[Constraint, ...], point: FrontPoint) -> float:
    """The sum of the violations as shares of their bounds."""
    return sum(max(0.0, b.violation(point.values[b.objective.name].value)) / (abs(b.bound) or 1.0) for b in budgets)


def _spread(losses: NDArray[np.float64], accuracy: int, count: int) -> list[int]:
    """Rows along the front: the most accurate, the knee, then always the one furthest from those chosen.

    The cheapest networks of a front are often useless. So only those count that lose, against the most accurate, at
    most `_LOSS_FACTOR` times what the knee loses; others follow by accuracy where that leaves too few.

    Args:
        losses: ``(n, m)``, none dominated.
        accuracy: its column.
        count: rows wanted.
    """
    # Of equally accurate ones the cheapest first.
    by_accuracy = np.lexsort([unit_scaled(losses).sum(1), losses[:, accuracy]])
    best, knee = int(by_accuracy[0]), int(np.argmin(chord_excess(losses)))
    loss = losses[by_accuracy, accuracy] - losses[best, accuracy]
    reasonable = int((loss <= _LOSS_FACTOR * (losses[knee, accuracy] - losses[best, accuracy])).sum())
    pool = by_accuracy[: max(reasonable, count)].tolist()
    # Scaled over the pool, so that a useless end does not make all others look alike.
    place = dict(zip(pool, unit_scaled(losses[pool]), strict=True))
    chosen = list(dict.fromkeys([best, knee]))
    while len(chosen) < min(count, len(pool)):
        left = [row for row in pool if row not in chosen]
        chosen.append(max(left, key=lambda row: min(np.linalg.norm(place[row] - place[other]) for other in chosen)))
    return chosen
