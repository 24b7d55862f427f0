"""Metrics, objectives and constraints by name, and the values they take.

An objective is written ``metric`` or ``metric@device``: ``accuracy``, ``macs``, ``latency_ms@cpu``. A constraint adds
a bound: ``latency_ms@cpu <= 2``.
"""

import math
import re
from dataclasses import dataclass
from difflib import get_close_matches
from typing import Literal, Self

from search_spaces.errors import InputError

Source = Literal["measured", "predicted", "analytic"]
"""From a clock or a labelled split, from a learned model, or from a formula."""


@dataclass(frozen=True)
class Metric:
    """What can be an objective.

    Attributes:
        unit: as shown to people.
        maximize: whether more is better.
        on_device: whether it is written ``metric@device``.
        learned: whether a predictor fitted to measurements tells it, where others have a formula.
    """

    unit: str
    maximize: bool = False
    on_device: bool = False
    learned: bool = False


METRICS: dict[str, Metric] = {
    "accuracy": Metric("fraction of the validation split", maximize=True),
    "macs": Metric("multiply-accumulates"),
    "parameters": Metric("parameters"),
    "latency_ms": Metric("ms", on_device=True, learned=True),
    "energy_mj": Metric("mJ", on_device=True, learned=True),
    "peak_memory_mb": Metric("MB", on_device=True, learned=True),
    "weight_bytes": Metric("bytes", on_device=True),
    "peak_activation_bytes": Metric("bytes", on_device=True),
}


LEARNED = tuple(name for name, metric in METRICS.items() if metric.learned)
"""The metrics that predictors tell."""


@dataclass(frozen=True)
class Value:
    """A value of a metric for one architecture, with where it comes from.

    Attributes:
        value: in the metric's unit; the centre where there is an interval.
        source: measured, predicted or analytic.
        lower: lower end of the interval, None where the value is exact.
        upper: upper end of the interval, None where the value is exact.
    """

    value: float
    source: Source
    lower: float | None = None
    upper: float | None = None

    def __post_init__(self) -> None:
        if not all(math.isfinite(part) for part in (self.value, self.lower, self.upper) if part is not None):
            raise ValueError(f"a value must be finite, got {self}")
        if (self.lower is None) != (self.upper is None):
            raise ValueError(f"an interval has two ends, got {self}")
        if self.lower is not None and self.upper is not None and not self.lower <= self.value <= self.upper:
            raise ValueError(f"the value must lie in its interval, got {self}")


@dataclass(frozen=True)
class Objective:
    """A metric, on a device where it needs one.

    Example:
        >>> Objective.parse("latency_ms@cpu").name
        'latency_ms@cpu'
    """

    metric: str
    device: str | None = None

    @property
    def name(self) -> str:
        """As users write it."""
        return f"{self.metric}@{self.device}" if self.device else self.metric

    @property
    def unit(self) -> str:
        """As shown to people."""
        return METRICS[self.metric].unit

    @property
    def maximize(self) -> bool:
        """Whether more is better."""
        return METRICS[self.metric].maximize

    @property
    def predictor(self) -> str | None:
        """Name, in a run's folder ``predictors``, of what tells it; None where a formula or an evaluation does.

        Example:
            >>> [Objective(metric, "cpu").predictor for metric in ("latency_ms", "energy_mj", "weight_bytes")]
            ['cpu', 'cpu.energy_mj', None]
        """
        if not METRICS[self.metric].learned:
            return None
        return self.device if self.metric == "latency_ms" else f"{self.device}.{self.metric}"

    def loss(self, value: float) -> float:
        """Returns the value so that less is better."""
        return -value if self.maximize else value

    @classmethod
    def parse(cls, text: str) -> Self:
        """Returns the objective of a name.

        Raises:
            InputError: an unknown metric, or a device where none belongs, or none where one does.
        """
        metric, at, device = text.strip().partition("@")
        if metric not in METRICS:
            close = get_close_matches(metric, METRICS, 1)
            hint = f"; did you mean {close[0]!r}?" if close else ""
            raise InputError(f"a metric must be one of {', '.join(METRICS)}, got {metric!r}{hint}")
        if METRICS[metric].on_device and not device:
            raise InputError(f"{metric} is measured on a device: write {metric}@NAME, NAME from `devices`")
        if at and not METRICS[metric].on_device:
            raise InputError(f"{metric} belongs to no device: write {metric} instead of {text!r}")
        return cls(metric, device or None)


_CONSTRAINT = re.compile(r"\s*([\w@./-]+)\s*(<=|>=)\s*([-+.\deE]+)\s*")


@dataclass(frozen=True)
class Constraint:
    """A bound on a metric.

    Attributes:
        objective: what is bounded.
        at_most: True for ``<=``, False for ``>=``.
        bound: in the metric's unit.

    Example:
        >>> Constraint.parse("latency_ms@cpu <= 2").violation(2.5)
        0.5
    """

    objective: Objective
    at_most: bool
    bound: float

    @property
    def text(self) -> str:
        """As users write it."""
        return f"{self.objective.name} {'<=' if self.at_most else '>='} {self.bound:g}"

    def violation(self, value: float) -> float:
        """Returns by how much the value breaks the bound; 0 or less where it holds (Optuna's convention)."""
        return value - self.bound if self.at_most else self.bound - value

    @classmethod
    def parse(cls, text: str) -> Self:
        """Returns the constraint of a text.

        Raises:
            InputError: not ``metric <= number`` or ``metric >= number``, or as `Objective.parse`.
        """
        match = _CONSTRAINT.fullmatch(text)
        try:
            bound = float(match[3]) if match else math.nan
        except ValueError:
            bound = math.nan
        if not match or not math.isfinite(bound):
            raise InputError(f"a constraint is 'metric <= number' or 'metric >= number', got {text!r}")
        return cls(Objective.parse(match[1]), match[2] == "<=", bound)
