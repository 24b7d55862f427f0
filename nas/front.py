"""The front of a run as a value and as ``front.json``: every evaluated network, what dominates what, the knee."""

import json
import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from nas.errors import InputError, RunError
from nas.objectives import Constraint, Objective, Value
from nas.pareto import hypervolume, knee, ranks
from search_spaces.architecture import Architecture
from search_spaces.checksum import read_json, write_json

FORMAT = 1
"""Version of front.json; another one is refused by name."""

Losses = NDArray[np.float64]


@dataclass(frozen=True)
class FrontPoint:
    """One evaluated network.

    Attributes:
        architecture: canonical.
        values: by objective name; more than the objectives where more is known.
        feasible: whether it keeps every constraint.
        rank: 1 on the front, 2 on the front without those, and so on; None where it breaks a constraint.
        probabilities: how likely it keeps each constraint on a predicted value, by the constraint's text, where known.
    """

    architecture: Architecture
    values: Mapping[str, Value]
    feasible: bool
    rank: int | None
    probabilities: Mapping[str, float] = field(default_factory=dict)

    @property
    def key(self) -> str:
        """The architecture's."""
        return self.architecture.key

    @property
    def on_front(self) -> bool:
        """Whether it is feasible and nothing feasible dominates it."""
        return self.rank == 1

    def losses(self, objectives: Iterable[Objective]) -> list[float]:
        """Returns its centre values so that less is better."""
        return [objective.loss(self.values[objective.name].value) for objective in objectives]

    def to_dict(self) -> dict[str, object]:
        """Returns JSON values; each value with its unit, source and interval (null where it is exact)."""
        return {
            "key": self.key,
            "text": self.architecture.text,
            "on_front": self.on_front,
            "rank": self.rank,
            "feasible": self.feasible,
            "probabilities": dict(self.probabilities),
            "values": {
                name: {
                    "value": value.value,
                    "unit": Objective.parse(name).unit,
                    "source": value.source,
                    "lower": value.lower,
                    "upper": value.upper,
                }
                for name, value in self.values.items()
            },
            "architecture": json.loads(self.architecture.to_json()),
        }


@dataclass(frozen=True)
class Front:
    """Every evaluated network of a run, judged; made by `Front.of`.

    Attributes:
        run: its name.
        objectives: accuracy and one or more costs.
        constraints: bounds that feasible networks keep.
        points: ordered by rank, then by the first cost; infeasible ones last.
        reference: of the hypervolume, a value of each objective in its own unit and direction.
    """

    run: str
    objectives: tuple[Objective, ...]
    constraints: tuple[Constraint, ...]
    points: tuple[FrontPoint, ...]
    reference: tuple[float, ...]

    @classmethod
    def of(
        cls,
        run: str,
        objectives: Iterable[Objective],
        constraints: Iterable[Constraint],
        candidates: Iterable[tuple[Architecture, Mapping[str, Value]]],
        reference: Iterable[float] | None = None,
        probabilities: Mapping[str, Mapping[str, float]] | None = None,
    ) -> Self:
        """Returns the front of evaluated networks.

        Args:
            run: the run's name.
            objectives: accuracy and at least one cost.
            constraints: bounds on values that every candidate has.
            candidates: the evaluated architectures, each once, with a value for every objective and constraint.
            reference: of the hypervolume; by default the worst value of each objective among the candidates.
            probabilities: of the candidates by key (`FrontPoint.probabilities`), where they are known.

        Raises:
            ValueError: no accuracy or no cost among the objectives, a value is missing, an architecture comes twice.
        """
        objectives, constraints, candidates = tuple(objectives), tuple(constraints), list(candidates)
        names = [objective.name for objective in objectives]
        if "accuracy" not in names or len(names) < 2:
            raise ValueError(f"a front needs accuracy and at least one cost among its objectives, got {names}")
        needed = {*names, *(constraint.objective.name for constraint in constraints)}
        for architecture, values in candidates:
            if missing := needed - set(values):
                raise ValueError(f"{architecture.key} has no value of {', '.join(sorted(missing))}")
        if len({architecture.key for architecture, _ in candidates}) < len(candidates):
            raise ValueError("an architecture was given twice")
        judged = [
            FrontPoint(
                architecture, values, keeps(values, constraints), None, (probabilities or {}).get(architecture.key, {})
            )
            for architecture, values in candidates
        ]
        feasible = [point for point in judged if point.feasible]
        layers = ranks(_losses(feasible, objectives))
        points = [
            *(replace(point, rank=int(layer)) for point, layer in zip(feasible, layers, strict=True)),
            *(point for point in judged if not point.feasible),
        ]
        cost = next(objective for objective in objectives if objective.name != "accuracy")
        points.sort(key=lambda point: (point.rank or math.inf, point.losses([cost]), point.key))
        if reference is None:
            worst = _losses(judged, objectives).max(0) if judged else np.zeros(len(objectives))
            reference = [objective.loss(float(loss)) for objective, loss in zip(objectives, worst, strict=True)]
        return cls(run, objectives, constraints, tuple(points), tuple(reference))

    @property
    def costs(self) -> tuple[Objective, ...]:
        """The objectives besides accuracy."""
        return tuple(objective for objective in self.objectives if objective.name != "accuracy")

    @cached_property
    def best(self) -> tuple[FrontPoint, ...]:
        """The points that nothing dominates, by the first cost."""
        return tuple(point for point in self.points if point.on_front)

    @cached_property
    def knee(self) -> str | None:
        """Key of the knee (`nas.pareto.knee`); None where no network is feasible."""
        return self.best[knee(_losses(self.best, self.objectives))].key if self.best else None

    @cached_property
    def hypervolume(self) -> float:
        """Exact volume between the front and the reference, in the product of the objectives' units."""
        corner = [objective.loss(value) for objective, value in zip(self.objectives, self.reference, strict=True)]
        return hypervolume(_losses(self.best, self.objectives), corner)

    def point(self, key: str) -> FrontPoint:
        """Returns the network of a key.

        Raises:
            InputError: no evaluated network has it.
        """
        for point in self.points:
            if point.key == key:
                return point
        raise InputError(f"{key!r} is no network of run {self.run}: take a key from `nas front`")

    def to_dict(self) -> dict[str, object]:
        """Returns the content of front.json."""
        return {
            "format": FORMAT,
            "run": self.run,
            "objectives": [
                {"name": objective.name, "unit": objective.unit, "maximize": objective.maximize}
                for objective in self.objectives
            ],
            "constraints": [constraint.text for constraint in self.constraints],
            "evaluated": len(self.points),
            "feasible": sum(point.feasible for point in self.points),
            "on_front": len(self.best),
            "knee": self.knee,
            "hypervolume": {
                "value": self.hypervolume,
                "reference": {
                    objective.name: value for objective, value in zip(self.objectives, self.reference, strict=True)
                },
            },
            "points": [point.to_dict() for point in self.points],
        }

    @classmethod
    def from_dict(cls, data: dict[str, Any]) -> Self:  # Any: JSON as read.
        """Returns the front of `to_dict`; ranks, knee and hypervolume are computed again, not believed.

        Raises:
            KeyError, TypeError, ValueError: the data are not of that form.
        """
        candidates, probabilities = [], {}
        for point in data["points"]:
            architecture = Architecture.from_json(json.dumps(point["architecture"]))
            if architecture.key != point["key"]:
                raise ValueError(f"key {point['key']!r} does not belong to its architecture, {architecture.key}")
            values = {
                name: Value(value["value"], value["source"], value["lower"], value["upper"])
                for name, value in point["values"].items()
            }
            candidates.append((architecture, values))
            # Files of earlier versions have none.
            probabilities[point["key"]] = {text: float(p) for text, p in point.get("probabilities", {}).items()}
        objectives = [Objective.parse(objective["name"]) for objective in data["objectives"]]
        reference = [float(data["hypervolume"]["reference"][objective.name]) for objective in objectives]
        constraints = map(Constraint.parse, data["constraints"])
        return cls.of(data["run"], objectives, constraints, candidates, reference, probabilities)

    def save(self, path: Path) -> None:
        """Writes front.json."""
        write_json(path, self.to_dict())

    @classmethod
    def load(cls, path: Path) -> Self:
        """Returns the front of a front.json.

        Raises:
            InputError: there is no such file.
            RunError: the file is damaged or of another format version.
        """
        try:
            data = read_json(path)
        except FileNotFoundError:
            raise InputError(f"{path} does not exist: search first, with `nas search`") from None
        except (OSError, ValueError) as error:
            raise RunError(f"{path} is damaged ({error}): write it again with `nas search`") from None
        version = data.get("format")
        if version != FORMAT:
            raise RunError(f"{path} has format {version!r}, this version of hwnas reads {FORMAT}; search again")
        try:
            return cls.from_dict(data)
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise RunError(
                f"{path} is damaged ({type(error).__name__}: {error}): write it again with `nas search`"
            ) from None


def keeps(values: Mapping[str, Value], constraints: Iterable[Constraint]) -> bool:
    """Returns whether the centre values break no constraint."""
    return all(constraint.violation(values[constraint.objective.name].value) <= 0 for constraint in constraints)


def _losses(points: Iterable[FrontPoint], objectives: tuple[Objective, ...]) -> Losses:
    return np.array([point.losses(objectives) for point in points], np.float64).reshape(-1, len(objectives))
