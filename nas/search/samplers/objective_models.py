"""ObjectiveModels: what is expected of candidates, objective by objective, given the finished trials."""

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtr

from nas.search.samplers.evolution import fitness_order
from nas.search.samplers.gaussian_process import Columns, GaussianProcess, Kernel
from nas.search.samplers.history import History
from nas.search.samplers.knowledge import Candidates

Floats = NDArray[np.float64]

_FIT_ROWS = 200
_CONDITION_ROWS = 500
"""Most finished trials that hyperparameters are fitted to, and that the posterior is conditioned on: bounds the time of
a proposal. Of more, those nearest to the front are taken, and the others at even intervals."""

_KNOWN_TOLERANCE = 1e-6


class Surrogate:
    """A Gaussian process of one quantity over candidates, with a given mean function."""

    def __init__(
        self, columns: Columns, targets: Floats, noise_std: float, order: NDArray[np.intp], kernels: dict[bytes, Kernel]
    ) -> None:
        fit = np.arange(fit_count(len(targets)))
        if len(fit) > _FIT_ROWS:
            fit = fit[np.linspace(0, len(fit) - 1, _FIT_ROWS).astype(int)]
        center, scale = float(targets[fit].mean()), float(targets[fit].std()) or 1.0
        key = targets[fit].tobytes() + columns.encoding[fit].tobytes() + columns.features[fit].tobytes()
        if key not in kernels:
            while len(kernels) > 8:  # of a few objectives; the oldest goes first
                del kernels[next(iter(kernels))]
            kernels[key] = Kernel.fit(columns[fit], (targets[fit] - center) / scale, (noise_std / scale) ** 2)
        used = np.sort(order) if len(order) <= _CONDITION_ROWS else np.sort(_most_useful(order))
        self.process = GaussianProcess(
            kernels[key], columns[used], targets[used], noise_std=noise_std, center=center, scale=scale
        )
        self.true_values = targets.copy()
        self.true_values[used] = self.process.true_values()


class ObjectiveModels:
    """Known costs, and Gaussian processes of everything else.

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
        self._processes: list[GaussianProcess | None] = []
        for objective, noise in enumerate(noise_std):
            told = history.losses[:, objective]
            prior = self._prior(history.finished, objective)[0]
            rest = told - prior
            if costs[objective] >= 0 and np.abs(rest).max() <= _KNOWN_TOLERANCE * np.abs(told).max():
                self._processes.append(None)
                continue
            if costs[objective] < 0:
                rest = winsorised(rest, fit_count(len(rest)))
            surrogate = Surrogate(columns, rest, float(noise), order, kernels)
            self._processes.append(surrogate.process)
            if noise > 0:
                self.losses[:, objective] = surrogate.true_values + prior
        self._constraints: list[GaussianProcess] = []
        for values in history.constraints.values():
            rows = np.flatnonzero(~np.isnan(values))
            if len(rows) >= 2:
                kept = fitness_order(history.losses[rows])
                self._constraints.append(Surrogate(columns[rows], values[rows], 0.0, kept, kernels).process)

    def _prior(self, candidates: Candidates, objective: int) -> tuple[Floats, Floats]:
        column = self._costs[objective]
        if column < 0:
            return np.zeros(len(candidates)), np.zeros(len(candidates))
        return self._signs[objective] * candidates.cost[:, column], candidates.cost_std[:, column]

    def believing(self, pending: Candidates) -> "ObjectiveModels":
        """Returns the models after pending trials came back as expected; their expected losses are in `losses` too."""
        if not len(pending):
            return self
        after = object.__new__(ObjectiveModels)
        after._costs, after._signs = self._costs, self._signs
        after._processes = [p and p.believing(pending.columns) for p in self._processes]
        after._constraints = [p.believing(pending.columns) for p in self._constraints]
        after.losses = np.concatenate([self.losses, self.losses_of(pending)[0]])
        return after

    def losses_of(self, candidates: Candidates) -> tuple[Floats, Floats]:
        """Returns mean and standard deviation ``(n, m)`` of the candidates' losses."""
        mean, std = np.empty((2, len(candidates), len(self._processes)))
        for objective, process in enumerate(self._processes):
            mean[:, objective], std[:, objective] = self._prior(candidates, objective)
            if process is not None:
                rest, std[:, objective] = process.posterior(candidates.columns)
                mean[:, objective] += rest
        return mean, std

    def feasibility(self, candidates: Candidates) -> Floats:
        """Returns ``(n,)``: the probability that the modelled constraints hold.

        Weighting an improvement by it: Schonlau, Welch and Jones, "Global versus local search in constrained
        optimization of computer models", 1998, section 5.
        """
        probability = np.ones(len(candidates))
        for process in self._constraints:
            mean, std = process.posterior(candidates.columns)
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
