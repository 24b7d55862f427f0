"""Where a search stands: counts, the best value of each objective, the front so far."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property

from nas.evaluators.base import fully_trained
from nas.objectives import METRICS
from nas.pareto import hypervolume, non_dominated
from nas.progress import Progress
from nas.search.problem import SearchProblem
from nas.search.records import Candidate


@dataclass(frozen=True)
class SearchProgress(Progress):
    """Progress of a search.

    Attributes:
        best: the best value of each objective among feasible networks, by name; empty before the first.
        feasible_share: of the distinct architectures proposed and not failed.
        front_size: networks that no other one beats.
        front_changed: whether the last result is one of them.
        failed: candidates given up.
        late: outcomes that came too late and were only counted.
        front: of all objectives as losses, a row for each of those networks.
        worst: the worst value of each objective so far, as a loss; empty before the first.
    """

    best: Mapping[str, float] = field(default_factory=dict)
    feasible_share: float = 1.0
    front_size: int = 0
    front_changed: bool = False
    failed: int = 0
    late: int = 0
    front: tuple[tuple[float, ...], ...] = field(default=(), repr=False)
    worst: tuple[float, ...] = ()

    @cached_property
    def hypervolume(self) -> float:
        """Exact volume between the front and the worst values so far; that of the last result is front.json's.

        Both ends only grow, hence so does the volume. Computed when it is asked for.
        """
        return hypervolume(self.front, self.worst) if self.front else 0.0


class Tracker:
    """Follows the candidates of a search as they end.

    Args:
        problem: gives objectives and constraints.
    """

    def __init__(self, problem: SearchProblem) -> None:
        self._problem = problem
        self._front: list[tuple[float, ...]] = []
        self._worst: tuple[float, ...] = ()
        self._best: dict[str, float] = {}
        self._feasible = 0
        self._early_stopped = 0
        self.counts = {"done": 0, "infeasible": 0, "failed": 0}
        self.late = 0

    def add(self, candidate: Candidate) -> bool:
        """Takes a candidate that is no longer open; returns whether it is on the front now."""
        self.counts[candidate.state] += 1
        values = known_values(candidate)
        if candidate.state != "done":
            return False
        if not fully_trained(candidate.metrics):
            self._early_stopped += 1
            self._feasible += self._problem.feasible(values)
            return False
        losses = tuple(objective.loss(values[objective.name]) for objective in self._problem.objectives)
        self._worst = tuple(map(max, losses, self._worst or losses))
        if not self._problem.feasible(values):
            return False
        self._feasible += 1
        for objective in self._problem.objectives:
            best, value = self._best.get(objective.name), values[objective.name]
            if best is None or objective.loss(value) < objective.loss(best):
                self._best[objective.name] = value
        rows = [*self._front, losses]
        kept = non_dominated(rows)
        self._front = [row for row, keep in zip(rows, kept, strict=True) if keep]
        return bool(kept[-1])

    def progress(self, total: int, *, front_changed: bool = False, notable: bool = False) -> SearchProgress:
        """Returns the state, with the budget as total."""
        judged = self.counts["done"] + self.counts["infeasible"]
        share = self._feasible / judged if judged else 1.0
        parts = [f"best {name} {_show(name, value)}" for name, value in self._best.items()]
        parts += [f"{len(self._front)} on the front", f"{share:.0%} feasible"]
        if self._early_stopped:
            parts.append(f"{self._early_stopped} stopped early")
        if self.counts["failed"]:
            parts.append(f"{self.counts['failed']} failed")
        if self.late:
            parts.append(f"{self.late} late")
        return SearchProgress(
            stage="search",
            done=min(self.counts["done"], total),
            total=total,
            text=", ".join(parts),
            notable=front_changed or notable,
            best=dict(self._best),
            feasible_share=share,
            front_size=len(self._front),
            front_changed=front_changed,
            failed=self.counts["failed"],
            late=self.late,
            front=tuple(self._front),
            worst=self._worst,
        )


def known_values(candidate: Candidate) -> dict[str, float]:
    """Returns every value of a candidate that compares with others', by objective name.

    Its costs, and its metrics once it is done, unless its training was stopped early.
    """
    metrics = candidate.metrics if fully_trained(candidate.metrics) else {}
    return {name: cost.value for name, cost in candidate.costs.items()} | dict(metrics)


def _show(name: str, value: float) -> str:
    metric = METRICS[name.partition("@")[0]]
    return f"{value:.4g}" if metric.maximize else f"{value:.4g} {metric.unit}"
