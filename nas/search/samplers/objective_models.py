"""ObjectiveModels: what is expected of candidates, objective by objective, given the finished trials."""

from copy import copy

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtr

from nas.search.samplers.evolution import fitness_order
from nas.search.samplers.gaussian_process import Columns, GaussianProcess, Kernel
from nas.search.samplers.history import History
from nas.search.samplers.knowledge import Candidates

Floats = NDArray[np.float64]

_FIT_ROWS = 200
_CONDITION_ROWS = 300
"""Most finished trials that hyperparameters are fitted to, and that the posterior is conditioned on: bounds the time of
a proposal. Of more, those nearest to the front are taken, and the others at even intervals."""

_KNOWN_TOLERANCE = 1e-6

_CAUTION = 0.7
"""Share of the model's standard deviation that an improvement is expected with. Of hundreds of candidates the one that
promises most beyond its mean is mostly the one that the model knows least: with the whole deviation too many of the
first hundred evaluations go there (`experiments/benchmarks/search_efficiency.py`; .6 and .8 are much the same)."""


class Surrogate:
    """A Gaussian process of one quantity over candidates; with a floor, of the logarithm of the distance from it.

    An error comes down towards a floor, and near it everything is smaller: what a change to the network gains, and what
    the features leave unexplained. On the logarithm both are about the same everywhere.

    Args:
        columns: of the n finished trials.
        targets: ``(n,)``.
        noise_std: of repeated evaluations.
        order: of the finished trials, most useful first.
        kernels: fitted before, by their data; a new one is put in.
        floor: below all targets; None for a quantity that may have any value.
        caution: factor of the standard deviations that `posterior` tells.

    Attributes:
        true_values: ``(n,)`` expected true values of the finished trials.
    """

    def __init__(
        self,
        columns: Columns,
        targets: Floats,
        noise_std: float,
        order: NDArray[np.intp],
        kernels: dict[bytes, Kernel],
        floor: float | None = None,
        caution: float = 1.0,
    ) -> None:
        self._floor, self._caution = floor, caution
        noise = np.full(len(targets), noise_std) if floor is None else noise_std / (targets - floor)
        if floor is not None:
            targets = np.log(targets - floor)
        fit = np.arange(fit_count(len(targets)))
        if len(fit) > _FIT_ROWS:
            fit = fit[np.linspace(0, len(fit) - 1, _FIT_ROWS).astype(int)]
        center, scale = float(targets[fit].mean()), float(targets[fit].std()) or 1.0
        key = targets[fit].tobytes() + columns.encoding[fit].tobytes() + columns.features[fit].tobytes()
        if key not in kernels:
            while len(kernels) > 8:  # of a few objectives; the oldest goes first
                del kernels[next(iter(kernels))]
            kernels[key] = Kernel.fit(columns[fit], (targets[fit] - center) / scale, (noise[fit] / scale) ** 2)
        used = np.sort(order) if len(order) <= _CONDITION_ROWS else np.sort(_most_useful(order))
        self._process = GaussianProcess(
            kernels[key], columns[used], targets[used], noise_std=noise[used], center=center, scale=scale
        )
        true = targets.copy()
        true[used] = self._process.true_values()
        self.true_values: Floats = true if floor is None else floor + np.exp(true)

    def posterior(self, columns: Columns) -> tuple[Floats, Floats]:
        """Returns mean and standard deviation of new networks' true values; of a log-normal one where there is a floor.

        Its moments: Johnson, Kotz and Balakrishnan, "Continuous Univariate Distributions 1", 1994, section 14.3.
        """
        mean, std = self._process.posterior(columns)
        std = self._caution * std
        if self._floor is None:
            return mean, std
        distance = np.exp(mean + 0.5 * std * std)
        return self._floor + distance, distance * np.sqrt(np.expm1(std * std))

    def believing(self, columns: Columns) -> "Surrogate":
        """Returns the surrogate after pending networks came back as expected."""
        after = copy(self)
        after._process = self._process.believing(columns)
        return after


class ObjectiveModels:
    """Known costs, and surrogates of everything else.

    Args:
        history: with at least two finished trials.
        costs: for each objective the column of its cost among the candidates' costs, -1 where it has none.
        noise_std: ``(m,)`` of the objectives' repeated evaluations.
        kernels: fitted before, by their data; new ones are put in.

    Attributes:
        losses: ``(n, m)`` expected true losses of the finished trials, of pending ones after them; the told losses
            where there is no noise.
    """

    def __init__(
        self, history: History, costs: tuple[int, ...], noise_std: Floats, kernels: dict[bytes, Kernel]
    ) -> None:
        self._costs, self._signs = costs, history.signs
        order = fitness_order(history.losses)
        columns = history.finished.columns
        self.losses = history.losses.copy()
        self._surrogates: list[Surrogate | None] = []
        for objective, noise in enumerate(noise_std):
            told = history.losses[:, objective]
            prior = self._prior(history.finished, objective)
            rest = told - prior
            if costs[objective] >= 0 and np.abs(rest).max() <= _KNOWN_TOLERANCE * np.abs(told).max():
                self._surrogates.append(None)
                continue
            floor = None
            if costs[objective] < 0:
                first = fit_count(len(rest))
                rest = winsorised(rest, first)
                floor = floor_of(rest, first)
            surrogate = Surrogate(columns, rest, float(noise), order, kernels, floor, _CAUTION)
            self._surrogates.append(surrogate)
            if noise > 0:
                self.losses[:, objective] = surrogate.true_values + prior
        self._constraints: list[Surrogate] = []
        for values in history.constraints.values():
            rows = np.flatnonzero(~np.isnan(values))
            if len(rows) >= 2:
                kept = fitness_order(history.losses[rows])
                self._constraints.append(Surrogate(columns[rows], values[rows], 0.0, kept, kernels))

    def _prior(self, candidates: Candidates, objective: int) -> Floats:
        column = self._costs[objective]
        if column < 0:
            return np.zeros(len(candidates))
        cost: Floats = self._signs[objective] * candidates.cost[:, column]
        return cost

    def believing(self, pending: Candidates) -> "ObjectiveModels":
        """Returns the models after pending trials came back as expected; their expected losses are in `losses` too."""
        if not len(pending):
            return self
        after = copy(self)
        after._surrogates = [s and s.believing(pending.columns) for s in self._surrogates]
        after._constraints = [s.believing(pending.columns) for s in self._constraints]
        after.losses = np.concatenate([self.losses, self.losses_of(pending)[0]])
        return after

    def losses_of(self, candidates: Candidates) -> tuple[Floats, Floats]:
        """Returns mean and standard deviation ``(n, m)`` of what evaluations of the candidates would tell.

        Where trials tell the predicted cost itself, an evaluation reveals nothing about it: its deviation is 0, or
        candidates would be proposed for being cheaper by luck.
        """
        mean, std = np.zeros((2, len(candidates), len(self._surrogates)))
        for objective, surrogate in enumerate(self._surrogates):
            mean[:, objective] = self._prior(candidates, objective)
            if surrogate is not None:
                rest, std[:, objective] = surrogate.posterior(candidates.columns)
                mean[:, objective] += rest
        return mean, std

    def feasibility(self, candidates: Candidates) -> Floats:
        """Returns ``(n,)``: the probability that the modelled constraints hold.

        Weighting an improvement by it: Schonlau, Welch and Jones, "Global versus local search in constrained
        optimization of computer models", 1998, section 5.
        """
        probability = np.ones(len(candidates))
        for surrogate in self._constraints:
            mean, std = surrogate.posterior(candidates.columns)
            probability *= ndtr(-mean / std)
        return probability


def fit_count(finished: int) -> int:
    """Returns how many of the first finished trials hyperparameters are fitted to: grows in steps of a tenth.

    The answer depends on the count alone, so that a resumed search fits the same.
    """
    size = 4
    while max(size + 2, int(size * 1.1)) <= finished:
        size = max(size + 2, int(size * 1.1))
    return min(size, finished)


def _most_useful(order: NDArray[np.intp]) -> NDArray[np.intp]:
    half = _CONDITION_ROWS // 2
    rest = order[half:]
    return np.concatenate([order[:half], rest[np.linspace(0, len(rest) - 1, _CONDITION_ROWS - half).astype(int)]])


def winsorised(targets: Floats, first: int | None = None) -> Floats:
    """Returns the targets with bad outliers pulled to Tukey's upper fence ("Exploratory Data Analysis", 1977).

    Networks that do not train at all say little about those that do, and would stretch the model's scale.

    Args:
        targets: ``(n,)``.
        first: how many of them set the fence, so that it stays while hyperparameters do; None for all.
    """
    low, high = np.quantile(targets[:first], [0.25, 0.75])
    clipped: Floats = np.minimum(targets, high + 1.5 * (high - low))
    return clipped if clipped.std() > 0 else targets


def floor_of(targets: Floats, first: int) -> float:
    """Returns where the targets are taken to end: as far below their least as their median is above it.

    The search goes on finding lesser ones: each lowers the floor if it comes near.

    Args:
        targets: ``(n,)``.
        first: how many of them set the floor, so that it stays while hyperparameters do.
    """
    least = float(targets[:first].min())
    gap = float(np.median(targets[:first])) - least or 1.0
    return min(least - gap, float(targets.min()) - 0.25 * gap)
