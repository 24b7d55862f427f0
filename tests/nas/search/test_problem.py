import pytest

from nas.errors import InputError
from nas.objectives import Constraint, Objective
from nas.search.problem import SearchProblem
from search_spaces.space import load_space

SPACE = load_space("tiny")
OBJECTIVES = (Objective.parse("accuracy"), Objective.parse("macs"))


@pytest.mark.parametrize("objectives", [(), OBJECTIVES[:1], (OBJECTIVES[0], OBJECTIVES[0])])
def test_a_search_needs_two_objectives_that_differ(objectives: tuple[Objective, ...]) -> None:
    with pytest.raises(InputError, match="two or more objectives that differ"):
        SearchProblem(SPACE, objectives)


def test_violations_are_shares_of_their_bounds_and_unknown_values_are_left_out() -> None:
    constraints = ("latency_ms@cpu <= 2", "macs <= 1e6", "accuracy >= 0.9")
    problem = SearchProblem(SPACE, OBJECTIVES, tuple(map(Constraint.parse, constraints)))
    values = {"latency_ms@cpu": 3.0, "macs": 5e5}
    assert problem.violations(values) == {"latency_ms@cpu <= 2": 0.5, "macs <= 1e+06": -0.5}
    assert not problem.feasible(values)
    assert problem.feasible({"latency_ms@cpu": 2.0, "macs": 5e5})
    assert not problem.feasible({"accuracy": 0.85})


def test_the_identity_changes_with_the_data_the_space_is_for() -> None:
    problem = SearchProblem(SPACE, OBJECTIVES)
    colour = SearchProblem(SPACE.with_data(image_channels=3, classes=10), OBJECTIVES)
    assert problem.identity(0) == SearchProblem(load_space("tiny"), OBJECTIVES).identity(0)
    assert problem.identity(0)["space"] != colour.identity(0)["space"]
    assert problem.identity(0) != problem.identity(1)


def test_the_order_of_constraints_does_not_matter() -> None:
    bounds = tuple(map(Constraint.parse, ("macs <= 1e6", "parameters <= 1e4")))
    one, other = SearchProblem(SPACE, OBJECTIVES, bounds), SearchProblem(SPACE, OBJECTIVES, bounds[::-1])
    assert one.identity(0) == other.identity(0)
