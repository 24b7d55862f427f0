import optuna
import pytest

from nas.config import SearchConfig
from nas.errors import InputError
from nas.evaluators.costs import AnalyticAndPredictedCosts
from nas.objectives import Objective
from nas.search.problem import SearchProblem
from nas.search.samplers import distributions, get_sampler, list_samplers, register_sampler
from nas.search.samplers.base import derived_seed
from search_spaces.space import load_space

PROBLEM = SearchProblem(load_space("tiny"), (Objective.parse("accuracy"), Objective.parse("macs")))
SPACE = PROBLEM.space
COSTS = AnalyticAndPredictedCosts(SPACE, PROBLEM.objectives, precisions={}, predictors={})


def ask(name: str, seed: int) -> dict[str, object]:
    study = optuna.create_study(
        sampler=get_sampler(PROBLEM, COSTS, SearchConfig.model_construct(sampler=name, population=6))(seed),
        directions=["maximize", "minimize"],
    )
    for number in range(12):
        trial = study.ask(dict(distributions(SPACE)))
        study.tell(trial, [number % 5, number % 7])
    return study.ask(dict(distributions(SPACE))).params


@pytest.mark.parametrize("name", ["hypervolume", "nsga2", "random", "tpe"])
def test_every_sampler_proposes_architectures_of_the_space_through_optuna_alone(name: str) -> None:
    assert name in list_samplers()
    proposed = ask(name, seed=3)
    assert SPACE.contains(SPACE.architecture(proposed))  # type: ignore[arg-type]
    assert proposed == ask(name, seed=3)
    assert proposed != ask(name, seed=4)


def test_an_unknown_name_says_what_is_close() -> None:
    with pytest.raises(InputError, match="got 'nsga'; did you mean 'nsga2'"):
        get_sampler(PROBLEM, COSTS, SearchConfig.model_construct(sampler="nsga"))


def test_a_name_is_registered_once() -> None:
    with pytest.raises(ValueError, match="'random' exists already"):
        register_sampler("random")(lambda problem, costs, config: lambda seed: optuna.samplers.RandomSampler(seed))


def test_derived_seeds_differ_by_number_and_by_seed() -> None:
    seeds = {derived_seed(seed, number) for seed in range(20) for number in range(200)}
    assert len(seeds) == 4000
    assert max(seeds) < 2**32


def test_choices_keep_their_types_and_order() -> None:
    spaces = [load_space(name) for name in ("tiny", "mobilenet_v3")]
    for space in spaces:
        for name, distribution in distributions(space).items():
            (dimension,) = (d for d in space.dimensions if d.name == name)
            assert distribution.choices == dimension.choices
