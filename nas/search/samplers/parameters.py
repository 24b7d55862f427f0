"""ParameterSpace: the parameters of an Optuna study as genes that evolve and as columns that a kernel reads."""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray
from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution, IntDistribution

Floats = NDArray[np.float64]
Params = Mapping[str, Any]  # what Optuna calls params: a value of any type by parameter name

MAX_LEVELS = 1024
"""A numeric parameter with more values than this is treated as continuous."""

INACTIVE = -0.5
"""Where a parameter that does not exist (a block beyond the depth) lies on the scale of its choices, 0 to 1."""


@dataclass(frozen=True)
class Gene:
    """One parameter.

    A gene's value is a level (0, 1, ...) where there are `levels`, else a place in [0, 1]; NaN where the parameter is
    absent.

    Attributes:
        name: of the parameter.
        distribution: as Optuna has it.
        levels: the values in order; empty for a continuous parameter.
        ordinal: whether the order of the levels means something to the model.
    """

    name: str
    distribution: BaseDistribution
    levels: tuple[Any, ...]  # choices of any type, as Optuna allows
    ordinal: bool

    @classmethod
    def of(cls, name: str, distribution: BaseDistribution) -> "Gene":
        """Returns the gene of a distribution; choices that are all numbers are put in ascending order."""
        if isinstance(distribution, CategoricalDistribution):
            numbers = all(isinstance(choice, bool | int | float) for choice in distribution.choices)
            levels = tuple(sorted(distribution.choices, key=_number)) if numbers else distribution.choices
            return cls(name, distribution, levels, ordinal=numbers or len(levels) == 2)
        if not isinstance(distribution, IntDistribution | FloatDistribution):
            raise TypeError(f"parameter {name!r} has a distribution that is not known: {distribution}")
        if distribution.step is None or distribution.log:
            integer_levels = isinstance(distribution, IntDistribution) and distribution.high - distribution.low
            if isinstance(distribution, FloatDistribution) or integer_levels >= MAX_LEVELS:
                return cls(name, distribution, (), ordinal=True)
        step = distribution.step or 1
        count = int((distribution.high - distribution.low) / step + 1e-9) + 1
        if count > MAX_LEVELS:
            return cls(name, distribution, (), ordinal=True)
        return cls(name, distribution, tuple(distribution.low + step * place for place in range(count)), ordinal=True)

    @cached_property
    def _level_of(self) -> dict[tuple[bool, Any], int]:
        return {(isinstance(level, bool), level): place for place, level in enumerate(self.levels)}

    def gene(self, value: object) -> float:
        """Returns the gene of a parameter's value."""
        if self.levels:
            key = (isinstance(value, bool), value)
            if key in self._level_of:
                return float(self._level_of[key])
            # A value told from elsewhere (an enqueued float off the grid) goes to the nearest level.
            return float(np.abs(np.array(self.levels, dtype=np.float64) - float(value)).argmin())  # type: ignore[arg-type]
        low, high = self._ends
        place = (np.log(float(value)) if self._log else float(value)) - low  # type: ignore[arg-type]
        return float(np.clip(place / (high - low), 0.0, 1.0))

    def value(self, gene: float) -> Any:  # a parameter's value may have any type
        """Returns the parameter's value of a gene."""
        if self.levels:
            return self.levels[int(gene)]
        distribution = self.distribution
        assert isinstance(distribution, IntDistribution | FloatDistribution)
        low, high = self._ends
        value = float(np.exp(low + gene * (high - low)) if self._log else low + gene * (high - low))
        if distribution.step is not None and not distribution.log:
            value = distribution.low + round((value - distribution.low) / distribution.step) * distribution.step
        value = min(max(value, distribution.low), distribution.high)
        return round(value) if isinstance(distribution, IntDistribution) else value

    @property
    def _log(self) -> bool:
        return bool(getattr(self.distribution, "log", False))

    @property
    def _ends(self) -> tuple[float, float]:
        low, high = float(getattr(self.distribution, "low", 0)), float(getattr(self.distribution, "high", 1))
        return (float(np.log(low)), float(np.log(high))) if self._log else (low, high)

    @cached_property
    def columns(self) -> Floats:
        """``(levels + 1, width)`` kernel columns of each level; the last row is that of an absent parameter."""
        count = len(self.levels)
        if self.ordinal:
            return np.append(np.arange(count) / max(count - 1, 1), INACTIVE)[:, None]
        return np.concatenate([np.eye(count) / np.sqrt(2), np.zeros((1, count))])


class ParameterSpace:
    """Parameters that vary, in a fixed order.

    Attributes:
        genes: one per parameter.
        levels: ``(d,)``, how many each gene has; 0 for a continuous one.
        ordinal: ``(d,)``, whether the order of a gene's levels means something.
    """

    def __init__(self, distributions: Mapping[str, BaseDistribution]) -> None:
        self.genes = tuple(Gene.of(name, d) for name, d in distributions.items() if not d.single())
        self.levels = np.array([len(gene.levels) for gene in self.genes], dtype=np.int64)
        self.ordinal = np.array([gene.ordinal for gene in self.genes], dtype=np.bool_)
        self._named = [(gene.name, gene.levels, gene) for gene in self.genes]
        self._ends = np.cumsum([gene.columns.shape[1] if gene.levels else 1 for gene in self.genes])
        # Genes whose levels have one column, and those columns below each other: they are encoded all at once.
        narrow = self.ordinal & (self.levels > 0)
        self._narrow, self._wide = np.flatnonzero(narrow), np.flatnonzero(~narrow)
        rows = [self.genes[gene].columns[:, 0] for gene in self._narrow]
        self._stack = np.concatenate([np.empty(0), *rows])
        self._last = np.cumsum([len(row) for row in rows], dtype=np.int64) - 1  # of an absent parameter

    def genome(self, params: Params) -> Floats:
        """Returns ``(d,)`` genes of a trial's parameters, NaN where one is absent."""
        return np.array([gene.gene(params[gene.name]) if gene.name in params else np.nan for gene in self.genes])

    def params(self, genome: Floats) -> dict[str, Any]:
        """Returns the parameters of one genome, those that are present."""
        return {
            name: levels[int(value)] if levels else gene.value(value)
            for (name, levels, gene), value in zip(self._named, genome.tolist(), strict=True)
            if value == value  # not NaN; this runs some hundred thousand times in a search
        }

    def sample(self, count: int, rng: np.random.Generator) -> Floats:
        """Returns ``(count, d)`` genomes, uniform over levels and places."""
        unit = rng.random((count, len(self.genes)))
        return np.where(self.levels > 0, np.floor(unit * self.levels), unit)

    def encode(self, genomes: Floats) -> Floats:
        """Returns ``(n, e)`` kernel columns: numbers by place on [0, 1], text one-hot."""
        columns = np.empty((len(genomes), self._ends[-1]))
        narrow = genomes[:, self._narrow]
        rows = np.where(np.isnan(narrow), 0, narrow - self.levels[self._narrow]).astype(int)
        columns[:, self._ends[self._narrow] - 1] = self._stack[self._last + rows]
        for place in self._wide:
            values, gene = genomes[:, place], self.genes[place]
            if gene.levels:
                one_hot = gene.columns[np.where(np.isnan(values), -1, values).astype(int)]
                columns[:, self._ends[place] - one_hot.shape[1] : self._ends[place]] = one_hot
            else:
                columns[:, self._ends[place] - 1] = np.where(np.isnan(values), INACTIVE, values)
        return columns


def _number(choice: object) -> float:
    return float(choice)  # type: ignore[arg-type]  # only called where every choice is a number
