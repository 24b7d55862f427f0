"""Search methods under comparison, ours and its peers, behind one function: spend a budget of evaluations."""

import contextlib
import logging
import time
import warnings
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import optuna
from numpy.typing import NDArray
from optuna.samplers import BaseSampler
from optuna.trial import TrialState
from search_problems import Problem, Vector

from latency_predictors.selection import choose_networks
from latency_predictors.source_bank import SourceBank
from latency_predictors.transfer import TransferPredictor
from nas.pareto import non_dominated
from nas.search.samplers.evolution import children, fitness_order
from nas.search.samplers.hypervolume import HypervolumeSampler
from nas.search.samplers.knowledge import CostTerms, Knowledge
from nas.search.samplers.parameters import ParameterSpace

Floats = NDArray[np.float64]

NOISE_STD = 0.3
"""Of the error in noisy runs, in points."""
FAILURE_RATE = 0.05

_MAX_IDLE = 3000
"""Proposals in a row that bring nothing new before a run ends early (small spaces are exhausted)."""
_STUCK = 10
"""Proposals in a row that bring nothing new before an Optuna sampler is helped by a uniform draw: GPSampler takes no
notice of failed trials and would propose the same network for ever."""


_SOURCE_ROWS = 1500
"""Networks drawn for the source devices; the measured ones are among them."""


class BudgetSpentError(Exception):
    """Ends a run."""


class Bench:
    """Counts evaluations and keeps what they showed.

    Args:
        problem: to be searched.
        budget: of distinct evaluated architectures, failed ones included.
        seed: of noise and failures.
        noisy: whether errors carry noise and evaluations fail.
    """

    def __init__(self, problem: Problem, budget: int, seed: int, *, noisy: bool = False) -> None:
        self.problem, self.budget, self._noisy = problem, budget, noisy
        self._rng = np.random.default_rng((seed, 1))
        self._told: dict[Vector, Floats | None] = {}
        self._true: list[Floats] = []
        self.idle = 0
        self.count = 0
        self._proposing_since = time.process_time()
        self.proposal_seconds = 0.0

    def evaluate(self, vector: NDArray[np.int64]) -> Floats | None:
        """Returns the losses told for a vector: known ones again, None outside the table or for a failure.

        Raises:
            BudgetSpentError: the budget is met, or nothing new has come for long.
        """
        self.proposal_seconds += time.process_time() - self._proposing_since
        key = tuple(int(v) for v in vector)
        if key in self._told:
            self.idle += 1
            if self.idle > _MAX_IDLE:
                raise BudgetSpentError
        else:
            self._told[key] = self._new(np.asarray(key))
        self._proposing_since = time.process_time()
        return self._told[key]

    def _new(self, vector: NDArray[np.int64]) -> Floats | None:
        losses: Floats = self.problem.losses(vector[None])[0]
        if np.isnan(losses[0]):
            self.idle += 1
            return None
        if self.count >= self.budget:
            raise BudgetSpentError
        self.idle, self.count = 0, self.count + 1
        failed = self._noisy and self._rng.random() < FAILURE_RATE
        self._true.append(np.full(2, np.inf) if failed else losses)
        if failed:
            return None
        return losses + np.array([self._rng.normal(0, NOISE_STD), 0.0]) if self._noisy else losses

    def ratios(self) -> Floats:
        """Returns ``(count,)`` hypervolume ratios after 1, 2, ... evaluations, by true losses."""
        ratios: list[float] = []
        front: Floats = np.empty((0, 2))
        for losses in self._true:
            front = np.concatenate([front, losses[None]])
            front = front[non_dominated(front)]
            ratios.append(self.problem.ratio(front) if not ratios or (front[-1] == losses).all() else ratios[-1])
        return np.array(ratios)


def _ask_and_tell(bench: Bench, sampler: BaseSampler, *, batch: int = 1, costs: Any = None) -> None:
    """Runs an Optuna sampler; ``costs`` replaces the cost that is told by a predicted one."""
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    study = optuna.create_study(directions=["minimize", "minimize"], sampler=sampler)
    distributions = bench.problem.distributions
    rng = np.random.default_rng(0)
    while True:
        if bench.idle and bench.idle % _STUCK == 0:
            choices = bench.problem.parameters
            study.enqueue_trial({name: options[rng.integers(len(options))] for name, options in choices.items()})
        trials = [study.ask(dict(distributions)) for _ in range(batch)]
        for trial in trials:
            vector = bench.problem.vectors([trial.params])
            told = bench.evaluate(vector[0])
            if told is None:
                study.tell(trial, state=TrialState.FAIL)
            else:
                cost = told[1] if costs is None else costs(vector)[0]
                study.tell(trial, [float(told[0]), float(cost)])


def _hypervolume_sampler(
    bench: Bench, seed: int, *, measurements: int | None = None, known: bool = True, batch: int = 1, noise: float = 0.0
) -> None:
    problem = bench.problem
    last: list[tuple[Sequence[Any], NDArray[np.int64]]] = [((), np.empty((0, 0), dtype=np.int64))]

    def vectors_of(params: Sequence[Any]) -> NDArray[np.int64]:
        """Returns the vectors of what is asked for costs, features and violations, one after the other."""
        if params is not last[0][0]:
            last[0] = params, problem.vectors(params)
        return last[0][1]

    predict = problem.costs if measurements is None else _transferred(problem, measurements, seed)

    def costs(params: Sequence[Any]) -> Floats:
        return predict(vectors_of(params))[:, None]

    sampler = HypervolumeSampler(
        seed=seed,
        search_space=problem.distributions,
        knowledge=Knowledge(
            costs=CostTerms((1,), costs) if known else None,
            features=lambda params: problem.features(vectors_of(params)),
            violations=lambda params: {"connected": np.where(problem.connected(vectors_of(params)), 0.0, 1.0)},
        ),
        noise_std=(noise, 0.0),
    )
    _ask_and_tell(bench, sampler, batch=batch, costs=predict if measurements is not None else None)


def _transferred(problem: Problem, measurements: int, seed: int) -> Callable[[NDArray[np.int64]], Floats]:
    """Returns the product's predictor of a new device's cost: transferred from other devices, by a few measurements."""
    rng = np.random.default_rng((seed, 2))
    drawn = problem.random(_SOURCE_ROWS, rng)
    networks = drawn[~np.isnan(problem.losses(drawn)[:, 0])]
    features, costs = problem.cost_features(networks), problem.sources(networks)
    columns = problem.cost_columns()
    bank = SourceBank.fit(features, costs, [f"source{number}" for number in range(costs.shape[1])], columns=columns)
    chosen = choose_networks(bank, features, measurements, rng)
    predictor = TransferPredictor("latency_ms", problem.name, seed=seed, columns=columns, bank=bank)
    predictor.fit_features(features[chosen], problem.costs(networks[chosen]))
    return lambda vectors: predictor.predict_features(problem.cost_features(vectors)).mean


def _random(bench: Bench, seed: int) -> None:
    rng = np.random.default_rng(seed)
    while True:
        bench.evaluate(bench.problem.random(1, rng)[0])


def _optuna(bench: Bench, make: Callable[[], BaseSampler]) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # experimental samplers say so on every construction
        _ask_and_tell(bench, make())


def _pymoo(bench: Bench, seed: int, name: str) -> None:
    from pymoo.algorithms.moo.age2 import AGEMOEA2
    from pymoo.algorithms.moo.nsga2 import NSGA2
    from pymoo.core.problem import Problem as PymooProblem
    from pymoo.operators.crossover.ux import UniformCrossover
    from pymoo.operators.mutation.pm import PM
    from pymoo.operators.repair.rounding import RoundingRepair
    from pymoo.operators.sampling.rnd import IntegerRandomSampling

    levels = [np.array(sorted(values)) for values in bench.problem.values]
    worst = bench.problem.high * 2

    class Levels(PymooProblem):  # type: ignore[misc]  # pymoo is not typed
        def __init__(self) -> None:
            super().__init__(
                n_var=len(levels), n_obj=2, xl=0, xu=np.array([len(level) - 1 for level in levels]), vtype=int
            )

        def _evaluate(self, x: Any, out: dict[str, Any], *_: Any, **__: Any) -> None:
            rows = [np.array([level[int(v)] for level, v in zip(levels, row, strict=True)]) for row in x]
            told = [bench.evaluate(row) for row in rows]
            out["F"] = np.array([worst if losses is None else losses for losses in told])

    algorithm = {"nsga2": NSGA2, "agemoea2": AGEMOEA2}[name](
        pop_size=20,
        sampling=IntegerRandomSampling(),
        crossover=UniformCrossover(prob=0.9, repair=RoundingRepair()),
        mutation=PM(prob=1.0, eta=3.0, vtype=float, repair=RoundingRepair()),
        eliminate_duplicates=True,
    )
    from pymoo.optimize import minimize

    minimize(Levels(), algorithm, ("n_gen", 2000), seed=seed, verbose=False)


def _botorch(bench: Bench, seed: int) -> None:
    import torch
    from botorch.acquisition.multi_objective.logei import qLogNoisyExpectedHypervolumeImprovement
    from botorch.fit import fit_gpytorch_mll
    from botorch.models import ModelListGP, SingleTaskGP
    from botorch.models.transforms.outcome import Standardize
    from botorch.optim import optimize_acqf_discrete_local_search
    from botorch.sampling.normal import SobolQMCNormalSampler
    from gpytorch.mlls import SumMarginalLogLikelihood

    torch.manual_seed(seed)
    torch.set_num_threads(1)
    logging.getLogger("botorch").setLevel(logging.ERROR)
    rng = np.random.default_rng(seed)
    problem = bench.problem
    levels = [np.array(sorted(values)) for values in problem.values]
    choices = [torch.linspace(0, 1, len(level), dtype=torch.double) for level in levels]

    def vector(x: Any) -> NDArray[np.int64]:
        return np.array([level[round(float(v) * (len(level) - 1))] for level, v in zip(levels, x, strict=True)])

    def place(row: NDArray[np.int64]) -> list[float]:
        return [float(np.searchsorted(level, v)) / (len(level) - 1) for level, v in zip(levels, row, strict=True)]

    xs: list[list[float]] = []
    ys: list[Floats] = []
    avoid: list[list[float]] = []

    def look(row: NDArray[np.int64]) -> None:
        told = bench.evaluate(row)
        avoid.append(place(row))
        if told is not None:
            xs.append(place(row))
            ys.append(told)

    while len(xs) < 12:
        look(problem.random(1, rng)[0])
    warnings.simplefilter("ignore")
    while True:
        x = torch.tensor(xs, dtype=torch.double)
        y = -torch.tensor((np.array(ys) - problem.low) / (problem.high - problem.low), dtype=torch.double)
        models = [SingleTaskGP(x, y[:, [k]], outcome_transform=Standardize(1)) for k in range(2)]
        model = ModelListGP(*models)
        fit_gpytorch_mll(SumMarginalLogLikelihood(model.likelihood, model))
        acquisition = qLogNoisyExpectedHypervolumeImprovement(
            model, ref_point=[-1.0, -1.0], X_baseline=x, prune_baseline=True,
            sampler=SobolQMCNormalSampler(torch.Size([64]), seed=seed),
        )  # fmt: skip
        best, _ = optimize_acqf_discrete_local_search(
            acquisition, q=1, discrete_choices=choices, num_restarts=4, raw_samples=256,
            X_avoid=torch.tensor(avoid, dtype=torch.double), unique=True,
        )  # fmt: skip
        look(vector(best[0].tolist()))


def _nsganetv2_like(bench: Bench, seed: int) -> None:
    """The loop of NSGANetV2 (Lu et al., ECCV 2020): fit a surrogate to the archive, evolve on it, evaluate 8, repeat.

    Its surrogate is here a ridge or a boosted-tree regression of the encoding, whichever ranks better in
    cross-validation (its adaptive switching); the cost is known, as there. The 8 are spread over the cost.
    """
    from scipy.stats import kendalltau
    from sklearn.ensemble import HistGradientBoostingRegressor
    from sklearn.linear_model import Ridge
    from sklearn.model_selection import cross_val_predict

    problem, rng = bench.problem, np.random.default_rng(seed)
    space = ParameterSpace(problem.distributions)
    levels = [gene.levels for gene in space.genes]
    codes = [
        dict(zip(choices, values, strict=True))
        for choices, values in zip(problem.parameters.values(), problem.values, strict=True)
    ]

    def vectors(genomes: Floats) -> NDArray[np.int64]:
        return np.array([[c[level[int(g)]] for c, level, g in zip(codes, levels, row, strict=True)] for row in genomes])

    archive: list[Floats] = []
    told: list[Floats] = []
    seen: set[bytes] = set()

    def look(genome: Floats) -> None:
        seen.add(genome.tobytes())
        losses = bench.evaluate(vectors(genome[None])[0])
        if losses is not None:
            archive.append(genome)
            told.append(losses)

    while len(archive) < 24:
        look(space.sample(1, rng)[0])
    while True:
        x, y = space.encode(np.array(archive)), np.array(told)[:, 0]
        models = [Ridge(1.0), HistGradientBoostingRegressor(max_iter=60, min_samples_leaf=4, random_state=0)]
        taus = [kendalltau(cross_val_predict(model, x, y, cv=5), y)[0] for model in models]
        model = models[int(np.nanargmax(taus))].fit(x, y)

        def judge(genomes: Floats) -> Floats:
            return np.stack([model.predict(space.encode(genomes)), problem.costs(vectors(genomes))], axis=1)  # noqa: B023

        start = np.array(archive)[fitness_order(np.array(told))[:50]]
        genomes = np.concatenate([start, space.sample(100 - len(start), rng)])
        losses = judge(genomes)
        for _ in range(20):
            born = children(space, genomes, 100, rng)
            genomes, unique = np.unique(np.concatenate([genomes, born]), axis=0, return_index=True)
            losses = np.concatenate([losses, judge(born)])[unique]
            order = fitness_order(losses)[:100]
            genomes, losses = genomes[order], losses[order]
        new = np.array([genome.tobytes() not in seen for genome in genomes])
        front = np.flatnonzero(new)[non_dominated(losses[new])] if new.any() else np.empty(0, dtype=int)
        by_cost = front[np.argsort(losses[front, 1])]
        for row in np.unique(np.linspace(0, len(by_cost) - 1, 8).astype(int)) if len(by_cost) else ():
            look(genomes[by_cost[row]])
        if not len(by_cost):
            look(space.sample(1, rng)[0])


METHODS: dict[str, Callable[[Bench, int], None]] = {
    "hypervolume": _hypervolume_sampler,
    "hypervolume_batch8": lambda bench, seed: _hypervolume_sampler(bench, seed, batch=8),
    "hypervolume_cost20": lambda bench, seed: _hypervolume_sampler(bench, seed, measurements=20),
    "hypervolume_cost100": lambda bench, seed: _hypervolume_sampler(bench, seed, measurements=100),
    "hypervolume_cost_unknown": lambda bench, seed: _hypervolume_sampler(bench, seed, known=False),
    "hypervolume_noisy": lambda bench, seed: _hypervolume_sampler(bench, seed, noise=NOISE_STD),
    "random": _random,
    "optuna_nsga2": lambda bench, seed: _optuna(
        bench, lambda: optuna.samplers.NSGAIISampler(population_size=20, seed=seed)
    ),
    "optuna_tpe": lambda bench, seed: _optuna(bench, lambda: optuna.samplers.TPESampler(multivariate=True, seed=seed)),
    "pymoo_nsga2": lambda bench, seed: _pymoo(bench, seed, "nsga2"),
    "pymoo_agemoea2": lambda bench, seed: _pymoo(bench, seed, "agemoea2"),
    "nsganetv2_like": _nsganetv2_like,
    "optuna_gp": lambda bench, seed: _optuna(bench, lambda: optuna.samplers.GPSampler(seed=seed)),
    "botorch_qlognehvi": _botorch,
}
"""Spends the bench's budget, by name; ends with `BudgetSpentError`."""

SLOW_METHODS = ("optuna_gp", "botorch_qlognehvi")
"""Seconds a proposal: 3 seeds, and little more than 100 evaluations."""


def run(problem: Problem, method: str, seed: int, budget: int) -> Bench:
    """Returns the bench after a method has spent its budget."""
    bench = Bench(problem, budget, seed, noisy=method.endswith("_noisy"))
    with contextlib.suppress(BudgetSpentError):
        METHODS[method](bench, seed)
    return bench
