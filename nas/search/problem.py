"""What is searched: a space, objectives and constraints."""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property

from nas.errors import InputError
from nas.objectives import Constraint, Objective
from search_spaces.space import SearchSpace


@dataclass(frozen=True)
class SearchProblem:
    """A space, what is better, and what is allowed.

    Attributes:
        space: with the channels and classes of the data.
        objectives: two or more.
        constraints: bounds that a network has to keep.
        comparable: whatever else results depend on, as name and text: hashes of the supernet's weights, of the data,
            of the latency predictors. A search is resumed only where all of it is the same.
    """

    space: SearchSpace
    objectives: tuple[Objective, ...]
    constraints: tuple[Constraint, ...] = ()
    comparable: Mapping[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        names = [objective.name for objective in self.objectives]
        if len(names) < 2 or len(set(names)) != len(names):
            raise InputError(f"a search needs two or more objectives that differ, got {names}")

    @cached_property
    def names(self) -> frozenset[str]:
        """Of everything that is optimised or bounded."""
        bounded = (constraint.objective for constraint in self.constraints)
        return frozenset(objective.name for objective in (*self.objectives, *bounded))

    def violations(self, values: Mapping[str, float]) -> dict[str, float]:
        """Returns by how much each constraint is broken, as a share of its bound; 0 or less where it holds.

        Shares, because samplers add the violations of one network up and bounds have different units.

        Args:
            values: by objective name; constraints on others are left out.
        """
        return {
            constraint.text: constraint.violation(values[constraint.objective.name]) / (abs(constraint.bound) or 1.0)
            for constraint in self.constraints
            if constraint.objective.name in values
        }

    def feasible(self, values: Mapping[str, float]) -> bool:
        """Returns whether no constraint is broken, as far as the values tell."""
        return all(violation <= 0 for violation in self.violations(values).values())

    def identity(self, seed: int) -> dict[str, str]:
        """Returns what a resumed search must share with the ledger, as name and text."""
        table = hashlib.sha256(self.space.table.model_dump_json().encode()).hexdigest()[:12]
        return {
            "space": f"{self.space.name} {table}",
            "objectives": ", ".join(objective.name for objective in self.objectives),
            "constraints": ", ".join(sorted(constraint.text for constraint in self.constraints)) or "none",
            "seed": str(seed),
            **self.comparable,
        }
