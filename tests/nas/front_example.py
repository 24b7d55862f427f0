"""Fronts for tests."""

from collections.abc import Sequence

from nas.front import Front
from nas.objectives import Constraint, Objective, Source, Value
from search_spaces.architecture import Architecture


def network(number: int, space: str = "tiny") -> Architecture:
    """One of many different networks."""
    return Architecture(space, (("resolution", 8 + number),))


def front_of(
    rows: Sequence[Sequence[float]],
    names: Sequence[str] = ("accuracy", "latency_ms@cpu"),
    constraints: Sequence[str] = (),
    extra: Sequence[str] = (),
    space: str = "tiny",
) -> Front:
    """A front of networks 0, 1, ... whose values are the columns ``names`` then ``extra``."""
    sources: dict[str, Source] = {"accuracy": "measured", "latency_ms@cpu": "predicted"}
    candidates = []
    for number, row in enumerate(rows):
        values = {}
        for name, value in zip([*names, *extra], row, strict=True):
            width = {"accuracy": 0.01, "latency_ms@cpu": 0.1 * value}.get(name)
            values[name] = Value(
                value,
                sources.get(name, "analytic"),
                None if width is None else value - width,
                None if width is None else value + width,
            )
        candidates.append((network(number, space), values))
    return Front.of("example", map(Objective.parse, names), map(Constraint.parse, constraints), candidates)
