"""HypervolumeSampler: proposes what is expected to add most hypervolume, knowing the cheap objectives."""

import zlib
from collections.abc import Mapping, Sequence
from functools import cache
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray
from optuna.distributions import BaseDistribution
from optuna.samplers import BaseSampler
from optuna.search_space import intersection_search_space
from optuna.study import Study
from optuna.trial import FrozenTrial, TrialState
from threadpoolctl import ThreadpoolController  # type: ignore[import-untyped]  # published without types

from nas.pareto import hypervolume
from nas.search.samplers.gaussian_process import Kernel
from nas.search.samplers.history import History
from nas.search.samplers.knowledge import Describer, Knowledge, only_value
from nas.search.samplers.objective_models import ObjectiveModels, winsorised
from nas.search.samplers.proposal import Effort, most_promising, spread_out

Floats = NDArray[np.float64]

_LEAST_TO_MODEL = 4

GAIN = "hypervolume:gain"
"""Attribute of a trial: the share that it was expected to add to the hypervolume of the trials before it."""


@cache
def _thread_pools() -> ThreadpoolController:
    """Returns the hold on BLAS threads: on matrices this small, waking them takes ten times as long as the work."""
    return ThreadpoolController()


class HypervolumeSampler(BaseSampler):
    """Bayesian optimisation for objectives of which some are cheap to know.

    Only what must be evaluated is modelled, by a Gaussian process over parameters and physical features; candidates are
    evolved on the model, and the one with the greatest expected hypervolume improvement is proposed (Emmerich,
    Giannakoglou and Naujoks, IEEE Transactions on Evolutionary Computation 10(4), 2006). Running trials count as
    finished with their expected values. A proposal depends on the seed and on the study's trials alone, so that a study
    that is rebuilt goes on the same way.

    Finished trials that broke a constraint of `Knowledge.violations` are remembered, and their values ignored: they
    need not have been evaluated. Other constraints (`Trial.set_constraint`) are modelled.

    Args:
        seed: of everything random.
        search_space: distributions by parameter name; if None, those that all finished trials share.
        knowledge: what can be told without an evaluation.
        reference: the worst values that matter, one for each objective in its own unit and sense; if None, the 99th
            percentile of a uniform sample for cheap objectives, the worst seen (less outliers) for others.
        noise_std: standard deviation of repeated evaluations, one for each objective in its unit; if None, 0: the same
            parameters give the same values.
        startup: trials spread over the space before the model is used.
        effort: of the inner search.

    Example:
        >>> import optuna
        >>> from nas.search.samplers.knowledge import CostTerms
        >>> def costs(many):
        ...     return np.array([[params["x"]] for params in many])
        >>> sampler = HypervolumeSampler(seed=0, knowledge=Knowledge(costs=CostTerms((1,), costs)))
        >>> study = optuna.create_study(directions=["maximize", "minimize"], sampler=sampler)
        >>> study.optimize(lambda trial: ((x := trial.suggest_int("x", 0, 9)) ** 0.5, x), n_trials=5)
        >>> len(study.best_trials)
        5
    """

    def __init__(
        self,
        *,
        seed: int = 0,
        search_space: Mapping[str, BaseDistribution] | None = None,
        knowledge: Knowledge | None = None,
        reference: Sequence[float] | None = None,
        noise_std: Sequence[float] | None = None,
        startup: int = 12,
        effort: Effort | None = None,
    ) -> None:
        self._seed = seed
        self._search_space = dict(search_space) if search_space is not None else None
        self._knowledge = knowledge or Knowledge()
        self._reference = reference
        self._noise_std = noise_std
        self._startup = max(startup, _LEAST_TO_MODEL)
        self._effort = effort or Effort()
        # Memories of pure functions: clearing them changes no proposal.
        self._describers: dict[tuple[tuple[str, BaseDistribution], ...], Describer] = {}
        self._kernels: dict[bytes, Kernel] = {}

    def with_seed(self, seed: int) -> Self:
        """Returns a sampler that differs in its seed and shares what this one has computed."""
        other = object.__new__(type(self))
        other.__dict__.update(self.__dict__)
        other._seed = seed
        return other

    def reseed_rng(self) -> None:
        """Does nothing: every trial has a random stream of its own."""

    def infer_relative_search_space(self, study: Study, trial: FrozenTrial) -> dict[str, BaseDistribution]:
        """Returns the given search space, or the parameters that all finished trials share."""
        if self._search_space is not None:
            return dict(self._search_space)
        return intersection_search_space(study.get_trials(deepcopy=False, states=(TrialState.COMPLETE,)))

    def sample_independent(
        self, study: Study, trial: FrozenTrial, param_name: str, param_distribution: BaseDistribution
    ) -> Any:  # a parameter's value may have any type
        """Returns a uniform draw, for parameters that are not in the search space (yet)."""
        if param_distribution.single():
            return only_value(param_distribution)
        rng = np.random.default_rng((self._seed, trial.number, zlib.crc32(param_name.encode())))
        describer = Describer({param_name: param_distribution}, Knowledge())
        return describer.params(describer.space.sample(1, rng)[0])[param_name]

    def sample_relative(
        self, study: Study, trial: FrozenTrial, search_space: dict[str, BaseDistribution]
    ) -> dict[str, Any]:  # parameters' values may have any type
        """Returns the proposal: parameters for the whole search space."""
        if all(distribution.single() for distribution in search_space.values()):
            return {}
        with _thread_pools().limit(limits=1, user_api="blas"):
            return self._propose(study, trial, search_space)

    def _propose(
        self, study: Study, trial: FrozenTrial, search_space: Mapping[str, BaseDistribution]
    ) -> dict[str, Any]:
        describer = self._describer(search_space)
        history = History.of(study, trial, describer)
        rng = np.random.default_rng((self._seed, trial.number))
        if len(history.finished) < _LEAST_TO_MODEL or len(history.finished) + len(history.pending) < self._startup:
            genome = spread_out(describer, history, rng)
        else:
            noise_std = np.zeros(len(history.signs)) if self._noise_std is None else np.asarray(self._noise_std)
            models = ObjectiveModels(history, self._cost_columns(len(history.signs)), noise_std, self._kernels)
            reference = self._worst(history, describer)
            genome, gain = most_promising(describer, history, models, reference, self._effort, rng)
            volume = hypervolume(models.losses[history.feasible], reference)
            # Where only Optuna's own samplers write too: a study that is rebuilt has it again.
            study._storage.set_trial_system_attr(trial._trial_id, GAIN, gain / volume if volume > 0 else 1.0)
        return describer.params(genome)

    def _describer(self, search_space: Mapping[str, BaseDistribution]) -> Describer:
        key = tuple(search_space.items())
        if key not in self._describers:
            self._describers[key] = Describer(search_space, self._knowledge)
        return self._describers[key]

    def _cost_columns(self, objectives: int) -> tuple[int, ...]:
        """Returns for each objective the column of its cost, -1 where it has none."""
        known = self._knowledge.costs.objectives if self._knowledge.costs else ()
        return tuple(known.index(objective) if objective in known else -1 for objective in range(objectives))

    def _worst(self, history: History, describer: Describer) -> Floats:
        """Returns ``(m,)``: the reference point, as losses."""
        if self._reference is not None:
            return history.signs * np.asarray(self._reference, dtype=np.float64)
        worst = []
        for objective, column in enumerate(self._cost_columns(len(history.signs))):
            if column < 0:
                worst.append(winsorised(history.losses[:, objective]).max())
            else:
                sample = describer.reference
                allowed = sample.cost[sample.violation <= 0, column]
                cost = allowed if len(allowed) >= _LEAST_TO_MODEL else sample.cost[:, column]
                worst.append(np.quantile(history.signs[objective] * cost, 0.99))
        return np.array(worst)
