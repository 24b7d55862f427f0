"""The inner search: which candidate to propose, given models of the objectives."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from nas.search.samplers.evolution import children, fitness_order
from nas.search.samplers.history import History
from nas.search.samplers.improvement import FreeBoxes
from nas.search.samplers.knowledge import Candidates, Describer
from nas.search.samplers.objective_models import ObjectiveModels

Floats = NDArray[np.float64]

_OPTIMISM = (0.0, 1.0, 2.0)
"""Standard deviations below the mean at which generations are judged, in turn."""

_SPREAD_POOL = 64


@dataclass(frozen=True)
class Effort:
    """How hard the inner search looks before each proposal.

    Attributes:
        population: genomes a generation.
        spreading: generations that survive by non-dominated sorting of optimistic losses.
        climbing: generations after those, whose parents are the candidates of greatest expected improvement.
    """

    population: int = 50
    spreading: int = 8
    climbing: int = 6

    def __post_init__(self) -> None:
        if self.population < 4 or min(self.spreading, self.climbing) < 0:
            raise ValueError(f"a population of at least 4 and no negative generations, got {self}")


class _Pool:
    """Candidates that were looked at during one inner search, each once."""

    def __init__(
        self, describer: Describer, models: ObjectiveModels, boxes: FreeBoxes, taken: frozenset[bytes]
    ) -> None:
        self._describer, self._models, self._boxes, self._taken = describer, models, boxes, taken
        self._seen: set[bytes] = set()
        self._parts: list[tuple[Candidates, Floats, Floats, Floats, NDArray[np.bool_]]] = []

    def add(self, genomes: Floats) -> None:
        """Describes and judges genomes that are new."""
        candidates = self._describer.describe(genomes)
        keys = candidates.keys
        first = {key: row for row, key in reversed(list(enumerate(keys))) if key not in self._seen}
        if not first:
            return
        self._seen.update(first)
        rows = np.sort(np.array(list(first.values()), dtype=np.intp))
        candidates = candidates[rows]
        mean, std = self._models.losses_of(candidates)
        gain = self._boxes.expected_improvement(mean, std) * self._models.feasibility(candidates)
        gain[candidates.violation > 0] = 0.0
        free = np.array([keys[row] not in self._taken for row in rows])
        self._parts.append((candidates, mean, std, gain, free))

    def collected(self) -> tuple[Candidates, Floats, Floats, Floats, NDArray[np.bool_]]:
        """Returns the candidates, mean and std of their losses, their gains and whether they may be proposed."""
        joined = self._parts[0][0]
        for part in self._parts[1:]:
            joined = joined.joined(part[0])
        mean, std, gain, free = (np.concatenate([part[place] for part in self._parts]) for place in range(1, 5))
        self._parts = [(joined, mean, std, gain, free)]
        return self._parts[0]


def most_promising(
    describer: Describer,
    history: History,
    models: ObjectiveModels,
    reference: Floats,
    effort: Effort,
    rng: np.random.Generator,
) -> tuple[Floats, float]:
    """Returns the genome of greatest expected hypervolume improvement that the inner search finds, and the improvement.

    Args:
        describer: of the space.
        history: the trials so far.
        models: of the finished trials.
        reference: ``(m,)`` worst losses that matter.
        effort: of the search.
        rng: decides everything random.
    """
    models = models.believing(history.pending)
    valid = np.concatenate([history.feasible, np.ones(len(history.pending), dtype=np.bool_)])
    pool = _Pool(describer, models, FreeBoxes.of(models.losses[valid], reference), history.taken)
    size = effort.population
    best = fitness_order(_with_violation(models.losses, ~valid, reference), size // 2)
    known = np.concatenate([history.finished.genomes, history.pending.genomes])
    pool.add(np.concatenate([known[best], describer.space.sample(size - len(best), rng)]))
    for generation in range(effort.spreading):
        candidates, mean, std, _, _ = pool.collected()
        losses = mean - _OPTIMISM[generation % len(_OPTIMISM)] * std
        order = fitness_order(_with_violation(losses, candidates.violation, reference), size)
        pool.add(children(describer.space, candidates.genomes[order], size, rng))
    for _ in range(effort.climbing):
        candidates, _, _, gain, _ = pool.collected()
        order = np.argsort(-gain, kind="stable")[: size // 4]
        pool.add(children(describer.space, candidates.genomes[order], size, rng))
    candidates, _, _, gain, free = pool.collected()
    if not free.any():
        return _any(describer, rng), 0.0
    # Where no gain is expected anywhere, the least violation decides, then chance.
    order = np.lexsort((rng.random(len(gain)), candidates.violation, -gain, ~free))
    return candidates.genomes[order[0]], float(gain[order[0]])


def spread_out(describer: Describer, history: History, rng: np.random.Generator) -> Floats:
    """Returns the genome farthest from all earlier ones among random candidates: a start without a model.

    Farthest by physical features and costs where there are any, by encoding else (Kennard and Stone, "Computer aided
    design of experiments", Technometrics 11, 1969).
    """
    sample = describer.reference
    rows = rng.permutation(np.flatnonzero([key not in history.taken for key in sample.keys]))
    allowed = rows[sample.violation[rows] <= 0]
    rows = (allowed if len(allowed) else rows)[:_SPREAD_POOL]
    if not len(rows):
        return _any(describer, rng)
    places = _place(sample)
    scale = np.where(places.std(0) > 1e-12, places.std(0), np.inf)
    earlier = np.concatenate([_place(history.finished), _place(history.pending)])
    gaps = (places[rows, None] - earlier) / scale
    distance = np.linalg.norm(gaps, axis=2).min(1, initial=np.inf)
    genome: Floats = sample.genomes[rows[int(distance.argmax())]]
    return genome


def _any(describer: Describer, rng: np.random.Generator) -> Floats:
    genome: Floats = describer.space.sample(1, rng)[0]
    return genome


def _place(candidates: Candidates) -> Floats:
    physical = np.concatenate([candidates.columns.features, candidates.cost], axis=1)
    return physical if physical.shape[1] else candidates.columns.encoding


def _with_violation(losses: Floats, violation: Floats | NDArray[np.bool_], reference: Floats) -> Floats:
    """Returns losses in which whatever breaks a constraint is worse than everything else, more so the more it breaks.

    The constraint domination of Deb et al. 2002, section VI, as a penalty.
    """
    broken = np.asarray(violation, dtype=np.float64)[:, None]
    span = np.ptp(np.concatenate([losses, reference[None]]), axis=0)
    return np.where(broken > 0, losses.max(0) + span * (1 + broken), losses)
