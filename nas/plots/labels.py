"""Words for axes and table heads."""

from nas.front import Front
from nas.objectives import Objective


def quantity(objective: Objective) -> str:
    """Returns an objective's name in words, without its unit.

    Example:
        >>> quantity(Objective.parse("peak_activation_bytes@cpu"))
        'peak activation on cpu'
    """
    words = objective.metric.removesuffix(f"_{objective.unit.lower()}").replace("_", " ")
    return f"{words} on {objective.device}" if objective.device else words


def axis_label(front: Front, name: str) -> str:
    """Returns name, unit and source of a value, the source only where all networks share it.

    Example: ``latency on cpu (ms, predicted)``.
    """
    objective = Objective.parse(name)
    sources = {point.values[name].source for point in front.points if name in point.values}
    notes = [objective.unit] if objective.unit != objective.metric else []
    notes += sources if len(sources) == 1 else []
    return f"{quantity(objective)} ({', '.join(notes)})" if notes else quantity(objective)
