"""What is known about a candidate without evaluating it: costs, physical features, violations, its canonical form."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import groupby
from typing import Any

import numpy as np
from numpy.typing import NDArray
from optuna.distributions import BaseDistribution
from optuna.trial import FrozenTrial

from nas.search.samplers.gaussian_process import Columns
from nas.search.samplers.parameters import ParameterSpace, Params

Floats = NDArray[np.float64]

_REFERENCE_SAMPLE = 256
_MAX_MEMORY = 200_000


@dataclass(frozen=True)
class CostTerms:
    """Objectives that are predicted or computed rather than evaluated.

    Where finished trials carry other values than these (the cost is measured when a network is evaluated), the
    difference is learned.

    Attributes:
        objectives: their places among the study's objectives.
        predict: takes n parameter sets; returns ``(n, len(objectives))`` values in the study's unit and sense. How
            sure they are is not asked: where trials tell the predicted cost, an evaluation would not show it, and
            where they tell a measured one, the spread of the differences is learned.
    """

    objectives: tuple[int, ...]
    predict: Callable[[Sequence[Params]], Floats]


@dataclass(frozen=True)
class Knowledge:
    """Everything a sampler can ask about parameter sets that were not evaluated; each part may be missing.

    Attributes:
        costs: cheap objectives.
        features: takes n parameter sets, returns ``(n, f)``: physical features in any unit, such as the logarithm of
            MACs, of parameters and of activations, and the depth of each stage; or scores of untrained networks
            (zero-cost proxies), where they are quick enough for several hundred candidates a proposal.
        violations: takes n parameter sets, returns ``(n,)`` by constraint name (the key of `Trial.set_constraint`);
            positive where broken. Candidates that break one are not proposed while there are others.
        needs: of each parameter that exists beside some values of others only (a block's kernel, where the stage is
            deep enough): (name of another parameter, its values with which this one exists), all of which must hold.
            Elsewhere it changes nothing, and no network is proposed twice that differs in such parameters alone.
    """

    costs: CostTerms | None = None
    features: Callable[[Sequence[Params]], Floats] | None = None
    violations: Callable[[Sequence[Params]], Mapping[str, Floats]] | None = None
    needs: Mapping[str, Sequence[tuple[str, Sequence[Any]]]] = field(default_factory=dict)  # values of any type


@dataclass(frozen=True)
class Candidates:
    """Parameter sets with what is known about them.

    Attributes:
        genomes: ``(n, d)`` canonical, NaN where a parameter is absent.
        columns: what the model's kernel reads.
        cost: ``(n, c)``.
        violation: ``(n,)`` sum of positive known violations; 0 where everything known is kept.
    """

    genomes: Floats
    columns: Columns
    cost: Floats
    violation: Floats

    def __len__(self) -> int:
        return len(self.genomes)

    def __getitem__(self, rows: NDArray[np.intp] | slice) -> "Candidates":
        return Candidates(self.genomes[rows], self.columns[rows], self.cost[rows], self.violation[rows])

    @property
    def keys(self) -> list[bytes]:
        """An identifier of each row; equal for equal canonical parameters."""
        return [row.tobytes() for row in self.genomes]

    def joined(self, other: "Candidates") -> "Candidates":
        """Returns these rows followed by others."""
        return Candidates(
            np.concatenate([self.genomes, other.genomes]),
            self.columns.joined(other.columns),
            np.concatenate([self.cost, other.cost]),
            np.concatenate([self.violation, other.violation]),
        )


class Describer:
    """Describes genomes, each once: what it found is kept in memory.

    Args:
        distributions: of the study's parameters.
        knowledge: what can be asked.

    Attributes:
        space: genes of the parameters that vary.
        reference: a fixed uniform sample of the space, for scales and reference points.
        known_constraints: names of the constraints that are known without an evaluation.
    """

    def __init__(self, distributions: Mapping[str, BaseDistribution], knowledge: Knowledge) -> None:
        self.space = ParameterSpace(distributions)
        self._fixed: dict[str, Any] = {  # parameters of one value; values of any type, as Optuna allows
            name: only_value(distribution) for name, distribution in distributions.items() if distribution.single()
        }
        self._knowledge = knowledge
        self._needs = self._exists_where()
        self._known: dict[bytes, Floats] = {}  # canonical genome -> features, cost, violation in one row
        self._genomes: dict[int, tuple[Params, Floats]] = {}  # by the number of a trial
        self.known_constraints: set[str] = set()
        self._widths = (0, 0)
        self._center: Floats = np.zeros(0)
        self._scale: Floats = np.ones(0)
        sample = self.space.sample(_REFERENCE_SAMPLE, np.random.default_rng(0))
        features = self.describe(sample).columns.features
        spread = features.std(0)
        self._center, self._scale = features.mean(0), np.where(spread > 1e-12, spread, np.inf)
        self.reference = self.describe(sample)

    def describe(self, genomes: Floats) -> Candidates:
        """Returns what is known about ``(n, d)`` genomes, in their order."""
        canonical = self._to_canonical(genomes)
        keys = [row.tobytes() for row in canonical]
        new = {key: row for key, row in zip(keys, canonical, strict=True) if key not in self._known}
        if new:
            if len(self._known) + len(new) > _MAX_MEMORY:
                self._known.clear()
                new = dict(zip(keys, canonical, strict=True))
            self._known.update(zip(new, self._ask([self._params(row) for row in new.values()]), strict=True))
        features, costs = self._widths
        rows = np.array([self._known[key] for key in keys]).reshape(len(keys), features + costs + 1)
        standard = (rows[:, :features] - self._center) / self._scale if len(self._center) else rows[:, :features]
        return Candidates(
            genomes=canonical,
            columns=Columns(self.space.encode(canonical), standard),
            cost=rows[:, features : features + costs],
            violation=rows[:, -1],
        )

    def _params(self, genome: Floats) -> dict[str, Any]:
        return self._fixed | self.space.params(genome)

    def _exists_where(self) -> list[tuple[list[int], list[tuple[int, NDArray[np.bool_]]]]]:
        """Returns columns of genes that need not exist, and (another column, which of its levels allow them)."""
        places = {gene.name: column for column, gene in enumerate(self.space.genes)}
        found = []
        # In this order: what another one needs has been decided before it. Neighbours mostly need the same.
        for needs, genes in groupby(self.space.genes, lambda gene: self._knowledge.needs.get(gene.name, ())):
            conditions = [
                (places[name], np.array([*(level in values for level in self.space.genes[places[name]].levels), False]))
                for name, values in needs
                if name in places
            ]
            if conditions:
                found.append(([places[gene.name] for gene in genes], conditions))
        return found

    def _to_canonical(self, genomes: Floats) -> Floats:
        """Returns the genomes with NaN for what does not exist; what exists and has no value has the first one."""
        if not self._needs:
            return np.ascontiguousarray(genomes)
        canonical = np.where(np.isnan(genomes), 0.0, genomes)
        for columns, conditions in self._needs:
            for other, allowed in conditions:
                levels = canonical[:, other]
                there = allowed[np.where(np.isnan(levels), -1, levels).astype(int)]  # the last one is for what is not
                for column in columns:
                    canonical[~there, column] = np.nan
        return canonical

    def _ask(self, params: Sequence[Params]) -> Floats:
        """Returns one row of numbers for each new parameter set."""
        knowledge, count = self._knowledge, len(params)
        features = np.zeros((count, 0)) if knowledge.features is None else _array(knowledge.features(params), count)
        cost = np.zeros((count, 0)) if knowledge.costs is None else _array(knowledge.costs.predict(params), count)
        violation = np.zeros(count)
        if knowledge.violations is not None:
            for name, values in knowledge.violations(params).items():
                self.known_constraints.add(name)
                violation += np.maximum(np.asarray(values, dtype=np.float64), 0.0)
        self._widths = features.shape[1], cost.shape[1]
        return np.concatenate([features, cost, violation[:, None]], axis=1)

    def genome_of(self, trial: FrozenTrial) -> Floats:
        """Returns the ``(d,)`` genome of a trial's parameters."""
        known = self._genomes.get(trial.number)
        if known is None or known[0] is not trial.params:
            known = trial.params, self.space.genome(trial.params)
            if trial.state.is_finished():  # its parameters will not change
                self._genomes[trial.number] = known
        return known[1]

    def params(self, genome: Floats) -> dict[str, Any]:
        """Returns a value for every parameter that varies, absent ones at their first choice."""
        return self.space.params(np.where(np.isnan(genome), 0.0, genome))


def _array(values: Floats, count: int) -> Floats:
    array = np.asarray(values, dtype=np.float64)
    if array.ndim != 2 or len(array) != count or not np.isfinite(array).all():
        raise ValueError(
            f"features and costs must be finite arrays of {count} rows, got shape {array.shape} with "
            f"{int((~np.isfinite(array)).sum())} values that are not finite"
        )
    return array


def only_value(distribution: BaseDistribution) -> Any:  # a parameter's value may have any type
    """Returns the value of a distribution that has just one."""
    choices = getattr(distribution, "choices", None)
    return choices[0] if choices else getattr(distribution, "low")  # noqa: B009
